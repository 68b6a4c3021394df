"""`<model>_train`: fit the candidates on what the night knew, judge them on later days, register the best."""

from airflow.sdk import dag, task

from dags.common import Json, every_night, nightly, run_day, run_step, versions_asset
from dags.sensors import wait_for_night
from include.config import Model, load_model, load_project, model_names
from include.contracts import Fitted, Interval

DOC = """
### {title}: train

Fits each candidate of `model.yaml` on the labelled days before the run day, judges all on the newest {judge_days} of
them, which none was fitted on, and registers the best as a version of `{name}`. It does not change what is published:
a version becomes champion by `python -m include.cli promote`, which writes the ledger (`promotions`).

**Safe to run again:** yes; a fit of the same data and code is taken up, and no second version is made.
**If it waits:** `wait_for_features` names the night that `{project}_prepare` has not finished.
**If it fails:** too few labelled days is said in words; prepare those days, then clear the failed task.
**By hand:** `python -m include.cli evaluate --model {name} --day 2013-03-01`
**Where to look:** MLflow, experiment `{project}/{name}`. Runs go one at a time, in ascending order. **Owner:** {owner}
"""


def train(model: Model) -> None:
    """The DAG of a model."""
    project = load_project(model.project)

    @dag(
        dag_id=f"{model.name}_train",
        doc_md=DOC.format(**model.model_dump()),
        tags=[project.name, model.name, "nightly"],
        schedule=every_night(project),
        max_active_runs=1,  # a gate needs the champion that earlier nights made
        **nightly(project),
    )
    def build() -> None:
        # of a mapped task Airflow does not take the docstring
        @task(map_index_template="{{ candidate }}", doc_md="Fit one candidate; one that is fitted already is taken up.")
        def fit(candidate: str) -> Json:
            return run_step("fit", model, Interval.of(run_day(project)), candidate=candidate)

        @task(outlets=[versions_asset(model)])
        def evaluate(fitted: Json) -> Json:
            """Judge the candidates on later days than they were fitted on; the best becomes a model version."""
            records = [Fitted.model_validate(record) for record in fitted]
            return run_step("evaluate", model, Interval.of(run_day(project)), fitted=records)

        ready = wait_for_night(project)
        fitted = fit.expand(candidate=[candidate.name for candidate in model.candidates])
        ready >> fitted
        evaluate(fitted)

    build()


for name in model_names():
    train(load_model(name))
