"""Wait for the files of a run date: poll a folder, or defer to the triggerer for S3, which occupies no worker.

This sensor is not in `sensors.py`, because every DAG file that imports it pays for the import of Amazon's provider.
"""

from datetime import datetime, timedelta
from typing import Any, NoReturn

from airflow.providers.amazon.aws.sensors.s3 import S3KeySensor
from airflow.providers.standard.triggers.temporal import DateTimeTrigger
from airflow.sdk.exceptions import AirflowSensorTimeout

from dags.alerts import LateFeedsError
from dags.common import WAIT, log, settings
from dags.connections import STORAGE, uri_of
from dags.params import run_date
from include.core.project import Project
from include.core.settings import utc_now


class WaitForFiles(S3KeySensor):
    """Wait for the cutoff and for a file of each required feed. This is the only step that reads the clock.

    The worker decides what is missing, with `missing_days`. The triggerer cannot import `include`: it gets a moment to
    wait for, or the keys that are missing, and the worker checks again what the triggerer found.
    """

    def __init__(self, *, project: Project, **arguments: Any) -> None:
        doc = (type(self).__doc__ or "").splitlines()[0]
        named = {"task_id": "wait_for_files", "task_display_name": "Wait for files", "doc_md": doc} | WAIT | arguments
        super().__init__(bucket_key=[], wildcard_match=True, deferrable=True, aws_conn_id=STORAGE, **named)
        self.project = project

    def execute(self, context: Any) -> None:
        """Check once and then defer to the triggerer; in a folder, poll on the worker."""
        from include.io.storage import is_s3

        self.deferrable = is_s3(uri_of("landing"))
        try:
            super().execute(context)
        except AirflowSensorTimeout as error:
            self._name_late_feeds(error)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Any) -> Any:
        """Go on after a deferral; name the feeds that are late if the time is over."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except AirflowSensorTimeout as error:
            self._name_late_feeds(error)

    def poke(self, context: Any) -> bool:
        """Return whether all files are there; log what is missing."""
        from include.io.landing import Landing
        from include.steps.arrivals import missing_days

        day = run_date(self.project)
        self.cutoff, self.since = self.project.cutoff_at(day), context["ti"].start_date
        if utc_now() < self.cutoff:
            log.info("waiting for the cutoff of %s, %s", day, self.cutoff)
            return False
        found = settings()
        missing = missing_days(self.project, day, found)
        for sentence in missing.values():
            log.info("waiting: %s", sentence)
        landing = Landing(self.project, found)
        self.bucket_key = [landing.pattern(*file) for file in missing]
        return not missing

    def execute_complete(self, context: Any, event: Any) -> None:
        """Check again, after the cutoff has passed or the triggerer found keys."""
        of_keys = isinstance(event, dict)  # otherwise the trigger waited for a moment
        if of_keys:
            super().execute_complete(context, event)  # raises the error that the triggerer reported
        if self.poke(context):
            return
        if of_keys:  # the keys exist but are not files of the feeds, such as a sidecar that came first
            self._defer_until(utc_now() + timedelta(seconds=self.poke_interval))
        self._defer()

    def _name_late_feeds(self, error: AirflowSensorTimeout) -> NoReturn:
        """Raise the error of a wait that is over, with the feeds that it waited for, so that people need no log.

        Raises:
            LateFeedsError: files are missing.
        """
        from include.steps.arrivals import missing_files

        try:
            missing = missing_files(self.project, run_date(self.project), settings())
        except Exception:  # noqa: BLE001 another error would be retried, and the wait would begin again
            log.exception("it is not known which feeds are late")
            raise error from None
        if missing:
            raise LateFeedsError(missing) from error
        raise error

    def _defer(self) -> None:
        if utc_now() < self.cutoff:
            self._defer_until(self.cutoff)
        self.timeout = self._left()
        super()._defer()

    def _defer_until(self, moment: datetime) -> NoReturn:
        trigger = DateTimeTrigger(moment=moment)
        self.defer(trigger=trigger, method_name="execute_complete", timeout=timedelta(seconds=self._left()))

    def _left(self) -> float:
        """Return the seconds until the whole wait times out, however often it was deferred."""
        left: float = self.timeout - (utc_now() - self.since).total_seconds()
        if left <= 0:
            raise AirflowSensorTimeout(f"the files did not arrive within {self.timeout / 3600:.0f} hours")
        return left
