"""Predictions for single recordings with trained systems."""
