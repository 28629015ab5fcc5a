"""Predictions for single recordings with a trained system."""
