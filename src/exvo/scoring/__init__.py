"""Scores, fusion of systems and the challenge submission."""
