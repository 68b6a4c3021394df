"""The wait for a night's files: in a folder by looking again and again, in S3 in the triggerer, which holds no worker.

Apart from `sensors.py`, since parsing pays for the import of Amazon's provider.
"""

from datetime import datetime, timedelta
from typing import Any, NoReturn

from airflow.providers.amazon.aws.sensors.s3 import S3KeySensor
from airflow.providers.standard.triggers.temporal import DateTimeTrigger
from airflow.sdk.exceptions import AirflowSensorTimeout

from dags.common import WAIT, log, settings
from dags.connections import STORAGE, uri_of
from dags.params import run_day
from include.config import Project
from include.settings import utc_now


class WaitForFiles(S3KeySensor):
    """Wait for the cutoff and a file of each required feed. The one step that reads the clock.

    What is missing is decided here, by `missing_files`. The triggerer cannot import `include`: it is given a moment,
    or the keys that are missing, and what it found is looked at again.
    """

    def __init__(self, *, project: Project, **arguments: Any) -> None:
        doc = (type(self).__doc__ or "").splitlines()[0]
        named = {"task_id": "wait_for_files", "doc_md": doc} | WAIT | arguments
        super().__init__(bucket_key=[], wildcard_match=True, deferrable=True, aws_conn_id=STORAGE, **named)
        self.project = project

    def execute(self, context: Any) -> None:
        """Once, then in the triggerer; in a folder again and again."""
        from include.io.storage import is_s3

        self.deferrable = is_s3(uri_of("landing"))
        super().execute(context)

    def poke(self, context: Any) -> bool:
        """Whether all is there; says what is not."""
        from include.io.landing import Landing
        from include.steps.land import missing_files

        day = run_day(self.project)
        self.cutoff, self.since = self.project.cutoff_at(day), context["ti"].start_date
        if utc_now() < self.cutoff:
            log.info("waiting for the cutoff of %s, %s", day, self.cutoff)
            return False
        found = settings()
        missing = missing_files(self.project, day, found)
        for sentence in missing.values():
            log.info("waiting: %s", sentence)
        landing, needed = Landing(self.project, found), self.project.required(day)
        self.bucket_key = [landing.pattern(feed, needed[feed]) for feed in missing]
        return not missing

    def execute_complete(self, context: Any, event: Any) -> None:
        """Look again, at the cutoff or at what the triggerer found."""
        of_keys = isinstance(event, dict)  # else a moment
        if of_keys:
            super().execute_complete(context, event)  # raises what the triggerer met
        if self.poke(context):
            return
        if of_keys:  # the keys are there and are no files of the feeds, such as a sidecar that came first
            self._defer_until(utc_now() + timedelta(seconds=self.poke_interval))
        self._defer()

    def _defer(self) -> None:
        if utc_now() < self.cutoff:
            self._defer_until(self.cutoff)
        self.timeout = self._left()
        super()._defer()

    def _defer_until(self, moment: datetime) -> NoReturn:
        trigger = DateTimeTrigger(moment=moment)
        self.defer(trigger=trigger, method_name="execute_complete", timeout=timedelta(seconds=self._left()))

    def _left(self) -> float:
        """Seconds until the wait as a whole times out, however often it was deferred."""
        left: float = self.timeout - (utc_now() - self.since).total_seconds()
        if left <= 0:
            raise AirflowSensorTimeout(f"the files are not there after {self.timeout / 3600:.0f} hours")
        return left
