from pathlib import Path

from snakemake.logging import logger

# What the scheduler does first, and after what failure it stops. It stands here and not in the plan of jobs: as an input
# of features, the result of `check_clips` would make all of them again for one new clip, and as an `ancient()` one
# it would hide from a call those jobs behind it that have to run for a reason of their own (Snakemake 9.27).
FIRST = ("convert_clips", "check_clips")


def look_for_work_once(scheduler):
    # While jobs wait, Snakemake 9.27 looks for work again a second after every look (--max-jobs-per-timespan), and each
    # job that ends adds a look of its own: after 1,000 jobs it looks 1,000 times a second, and takes a core for itself.
    # On one machine its cores are the limit, and nothing else has to be looked for; clusters keep their limit.
    if workflow.local_exec:
        scheduler.job_rate_limiter = None


def decode_first(scheduler):
    """Let no other job start while recordings are decoded and counted: too many may turn out to be broken."""
    select = scheduler.job_selector

    def select_first(jobs):
        first = {job for job in jobs if job.name in FIRST}
        # Where decoding has failed for good, its check never comes; then the rest goes on.
        wait = first or any(job.name in FIRST for job in scheduler.running)
        chosen = first if wait else jobs
        return select(chosen) if chosen else []

    scheduler.job_selector = select_first


def stop_after_failed_check(scheduler):
    """Let no job start after `check_clips` failed, also with keep-going: all would rest on broken recordings."""
    take_note = scheduler.error_callback

    def note_and_stop(job):
        if job.name == "check_clips":
            scheduler.keepgoing = False
        take_note(job)

    scheduler.error_callback = note_and_stop


onstart:
    look_for_work_once(workflow.scheduler)
    decode_first(workflow.scheduler)
    stop_after_failed_check(workflow.scheduler)


onerror:
    # Once more at the end of the run, for the log of the job may be far above.
    for job in sorted(workflow.scheduler.failed, key=str):
        if job.name == "check_clips" and Path(job.log[0]).is_file():
            said = Path(job.log[0]).read_text(encoding="utf-8").partition("TooManyBadClips: ")[2]
            if said:
                logger.error(said.strip())
