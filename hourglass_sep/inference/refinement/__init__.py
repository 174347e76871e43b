"""Refinement of estimated masks by NMF and clustering."""
