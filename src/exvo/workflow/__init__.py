"""Plan, systems, config and jobs of the workflow, which only the Snakefile needs."""
