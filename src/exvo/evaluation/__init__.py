"""Metrics, confidence intervals and the submission."""
