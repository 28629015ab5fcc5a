"""What only the Snakefile needs: plan, systems, config, jobs."""
