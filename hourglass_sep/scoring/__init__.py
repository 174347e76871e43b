"""Scores of estimates: metrics, protocols, baseline systems, and rows of scores by clip."""
