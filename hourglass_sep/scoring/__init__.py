"""Scores of estimates: metrics, protocols, systems to compare with, rows by clip."""
