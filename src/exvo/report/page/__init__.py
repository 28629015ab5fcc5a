"""The report: one HTML file for readers, made from what a run left on disk."""
