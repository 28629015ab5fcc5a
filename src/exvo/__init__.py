"""Emotion, age and country from vocal bursts.

The library behind the Snakemake workflow of this repository; importable without Snakemake. Data flows one
way, and imports follow it: corpus, audio, features, models, scoring, report.
"""

__version__ = "0.1.0"
