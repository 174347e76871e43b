"""Separation of song files: search, planning, separation and console output."""
