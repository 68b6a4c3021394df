"""The task that starts a training for which alerts asked, in `<project>_monitor`."""

from typing import Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator

from dags import params
from dags.common import run_step, skipped
from include.config.loading import load_project
from include.config.model import Model
from include.core.interval import Interval


class RequestTraining(TriggerDagRunOperator):
    """Start the run of `<model>_train` for the run date, once, if alerts of the run date are a reason for it.

    The id of the run has the run date, so a repeated task starts no second one. Its conf has the reason. The run itself
    looks whether another training has taken its place, since it can wait for days: `check_request` of `dags/train.py`.
    """

    template_fields = ()

    def __init__(self, *, model: Model, **options: Any) -> None:
        super().__init__(
            trigger_dag_id=f"{model.name}_train",
            logical_date=None,
            skip_when_already_exists=True,
            wait_for_completion=False,
            **options,
        )
        self.model = model

    def execute(self, context: Any) -> None:
        """Start it.

        Raises:
            AirflowSkipException: nothing asks for a training, or the run belongs to a backfill.
        """
        if params.is_backfill():
            raise skipped("a backfill asks for no training", context)
        day = params.run_date(load_project(self.model.project))
        record = run_step("retrain", self.model, Interval.of(day))
        self.trigger_run_id, self.conf = f"{params.REQUESTED}{day}", {"day": str(day), "why": record["why"]}
        super().execute(context)
