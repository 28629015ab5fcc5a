from pathlib import Path

from snakemake.logging import logger

# The jobs that run first. If one of them fails, the run stops. The scheduler enforces this, and not the graph of jobs:
# if features had the result of `check_clips` as an input, one new clip would make all of them again; if they had it
# as an `ancient()` input, Snakemake 9.27 would not see that later jobs have to run for another reason.
FIRST = ("convert_clips", "check_clips")


def schedule_once_per_job(scheduler):
    # While jobs wait, Snakemake 9.27 schedules every second (--max-jobs-per-timespan), once for each job that has ended:
    # after 1,000 jobs it schedules 1,000 times a second, which takes a core. On one machine the number of cores is the
    # only limit that is needed; clusters keep --max-jobs-per-timespan.
    if workflow.local_exec:
        scheduler.job_rate_limiter = None


def decode_first(scheduler):
    """Start no other job while recordings are decoded and counted, because too many of them may be broken."""
    select = scheduler.job_selector

    def select_first(jobs):
        first = {job for job in jobs if job.name in FIRST}
        # If decoding has failed finally, there is no check to wait for.
        wait = first or any(job.name in FIRST for job in scheduler.running)
        chosen = first if wait else jobs
        return select(chosen) if chosen else []

    scheduler.job_selector = select_first


def stop_after_failed_check(scheduler):
    """Start no job after `check_clips` has failed, even with keep-going: it would use broken recordings."""
    take_note = scheduler.error_callback

    def note_and_stop(job):
        if job.name == "check_clips":
            scheduler.keepgoing = False
        take_note(job)

    scheduler.error_callback = note_and_stop


onstart:
    schedule_once_per_job(workflow.scheduler)
    decode_first(workflow.scheduler)
    stop_after_failed_check(workflow.scheduler)


onerror:
    # Repeat the message at the end of the run, because the log of the job may be far above.
    for job in sorted(workflow.scheduler.failed, key=str):
        if job.name == "check_clips" and Path(job.log[0]).is_file():
            said = Path(job.log[0]).read_text(encoding="utf-8").partition("TooManyBadClips: ")[2]
            if said:
                logger.error(said.strip())
