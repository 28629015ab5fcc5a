"""Late fusion: rules, stacking, selection and comparisons."""
