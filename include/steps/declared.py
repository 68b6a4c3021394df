"""The declaration of each step, which the command line, the runner, the DAGs and the wheel read.

A step is a public function in a file of the same name. To add one, write the file and add an entry here. Heavy imports
happen only when the step runs, because DAG files read this table at each parse.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from include.config.loading import load_model, load_project
from include.config.model import Model
from include.core import records
from include.core.project import Project
from include.core.records import StepResult
from include.core.settings import Settings

RANGE_DAYS = 92
SPARK_RANGE_DAYS = 366  # Spark limits its own memory, and each job costs seconds


@dataclass(frozen=True)
class Step:
    """The description of a step, which does not import it.

    Attributes:
        name: the name of the step, its function and its module.
        config: the class of its configuration, a project or a model.
        result: the record that it returns.
        package: the package of its module.
        remote: whether it may run on Databricks; such a step reaches tables and MLflow only.
        reads_journal: whether it reads the journal where it runs. On Databricks, the option `watermark` names the copy
            that the worker leaves.
        range_days: how many days of a range it gets at once.
        afterwards: a function of its module. It takes the record and the settings, and writes the rows for which other
            steps wait to the shared database. The worker calls it after the step succeeded, wherever the step ran.
        writes_journal: whether it adds entries to the journal, which the runner exports before the step succeeds.
        reads_sources: whether it reads the databases of feeds. Only such a step gets their connections.
    """

    name: str
    config: type[Project] | type[Model]
    result: type[StepResult]
    package: str = "include.steps"
    remote: bool = False
    reads_journal: bool = False
    range_days: int = RANGE_DAYS
    afterwards: str | None = None
    writes_journal: bool = False
    reads_sources: bool = False

    @property
    def function(self) -> Callable[..., StepResult]:
        """The function of the step."""
        function: Callable[..., StepResult] = getattr(self._module, self.name)
        return function

    def load_config(self, name: str) -> Project | Model:
        """Return the project or model of this name."""
        return load_project(name) if self.config is Project else load_model(name)

    def finish(self, result: StepResult, settings: Settings) -> None:
        """Write the rows for which other steps wait to the shared database."""
        if self.afterwards:
            getattr(self._module, self.afterwards)(result, settings)

    @property
    def _module(self) -> Any:
        return importlib.import_module(f"{self.package}.{self.name}")


_OPERATIONS = "include.operations"

STEPS = {
    step.name: step
    for step in (
        Step("land", Project, records.Landed, writes_journal=True),
        Step("extract", Project, records.Extracted, writes_journal=True, reads_sources=True),
        Step("validate", Project, records.Validated, writes_journal=True),
        Step(
            "build_features",
            Project,
            records.Featured,
            remote=True,
            reads_journal=True,
            range_days=SPARK_RANGE_DAYS,
            afterwards="record_prepared_days",
            writes_journal=True,
        ),
        Step(
            "fit",
            Model,
            records.Fitted,
            remote=True,
            reads_journal=True,
            afterwards="record_fit",
            writes_journal=True,
        ),
        Step("evaluate", Model, records.Evaluated),
        Step("gate", Model, records.GateDecision),
        Step("report_version", Model, records.Reported),
        Step("promote", Model, records.Promotion),
        Step("score", Model, records.Scored, remote=True),
        Step("publish", Model, records.Published),
        Step("shadow", Model, records.Shadowed),
        Step("end_shadow", Model, records.ShadowEnded),
        Step("outcomes", Project, records.Recorded),
        Step("skew", Project, records.Skewed, range_days=31),
        Step("monitor", Project, records.Monitored),
        Step("retrain", Model, records.Retrained),
        Step("report_period", Project, records.PeriodsReported),
        Step("public_page", Project, records.PublicPageMade),
        Step("revalidate", Project, records.Revalidated, _OPERATIONS, writes_journal=True),
        Step("unpublish", Model, records.Unpublished, _OPERATIONS),
        Step("rollback", Model, records.RolledBack, _OPERATIONS),
        Step("maintain", Project, records.Maintained, _OPERATIONS),
        Step(
            "adopt_model",
            Model,
            records.Adopted,
            _OPERATIONS,
            afterwards="record_adoption",
            writes_journal=True,
        ),
    )
}
"""Step by name: the steps in pipeline order, then the operations that are recorded like steps."""
