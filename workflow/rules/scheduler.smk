onstart:
    # While jobs wait, Snakemake 9.27 looks for work again a second after every look (--max-jobs-per-timespan), and each
    # job that ends adds a look of its own: after 1,000 jobs it looks 1,000 times a second, and takes a core for itself.
    # On one machine its cores are the limit, and nothing else has to be looked for; clusters keep their limit.
    if workflow.local_exec:
        workflow.scheduler.job_rate_limiter = None
