"""Metrics, intervals and the submission."""
