"""The night as a Prefect flow with one task for each step, served by a process that waits for runs.

Each run of the flow is a process, in which tasks of feeds run at once.
"""

from prefect import flow, task

from bench.peers.night import FEED_NAMES, Night


@task(retries=2, retry_delay_seconds=30)
def validate(run_date: str, name: str) -> None:
    """Clean rows of a feed."""
    Night.of(run_date).validate(name)


@task
def build_features(run_date: str) -> None:
    """Features of the run date."""
    Night.of(run_date).build_features()


@task
def score(run_date: str) -> None:
    """Scores of the run date."""
    Night.of(run_date).score()


@task
def publish(run_date: str) -> None:
    """Rows of the run date in PostgreSQL."""
    Night.of(run_date).publish()


@flow(log_prints=False)
def night(run_date: str) -> None:
    """Prepare, score and publish a run date."""
    for checked in [validate.submit(run_date, name) for name in FEED_NAMES]:
        checked.result()
    build_features(run_date)
    score(run_date)
    publish(run_date)


if __name__ == "__main__":
    night.serve(name="nightly")
