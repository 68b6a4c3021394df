"""`model.yaml`, as a frozen record."""

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from include.config.approval import Approval
from include.config.explanations import Explanations
from include.config.retrain import Reason, Retrain
from include.core.actions import AnyAction
from include.core.base import Name
from include.core.exports import Format
from include.core.project import RunOn
from include.core.variants import require_once, with_defaults
from include.gate.checks import GateCheck
from include.gate.checks.champion import Champion
from include.gate.config import Gate
from include.gate.shadow import Shadow
from include.monitoring import AnyMonitor, Monitor
from include.monitoring.records import MonitoredModel
from include.training.config import Training
from include.training.costs import Costs

TO_FILL_IN = "TODO"
"""How a specification begins that nobody wrote yet. It runs, so that a laptop can try it; `check_config` refuses it."""


class Model(Training):
    """`model.yaml`."""

    title: str = Field(description="the model's name for people", examples=["Revenue of a day"])
    purpose: str = Field(
        description="what the model is for, in a sentence for people outside the team",
        examples=["orders for the shops without throwing bread away"],
    )
    decision: str = Field(
        description="the decision that its predictions serve: who decides what, and when",
        examples=["the planner orders each shop's bread at 05:00"],
    )
    costs: Costs = Field(description="what errors cost, in the owner's unit; the training report reads it")
    built_by: str = Field(
        description="the team that answers for it until it is deployed, and reviews each change of it",
        examples=["data-science"],
    )
    owner: str = Field(
        description="the team that answers for it once it is deployed; the owner of its DAGs",
        examples=["bakery-planning"],
    )
    tier: Literal[1, 2, 3] = Field(
        default=2,
        description="how much the model matters, which decides the severity of its incidents: 1 is critical, 2 high, "
        "3 low",
        examples=[1],
    )
    run_on: dict[Literal["fit", "score"], RunOn] = Field(
        default_factory=dict,
        description="where a step runs: on the worker by default; on Spark (score only), or on Databricks "
        "(docs/where-steps-run.md)",
        examples=[{"fit": "databricks", "score": "spark"}],
    )
    train_schedule: str | None = Field(
        default=None,
        description="cron of its training, in the project's timezone; by default the project's schedule. Scoring is "
        "nightly in any case",
        examples=["0 3 * * mon"],
    )
    retrain: Reason | tuple[Reason, ...] | Retrain | None = Field(
        default=None,
        description="of a model that does not train nightly: alerts on which a training of the run date is started "
        "beside its schedule",
        examples=["on_degradation", ["on_drift", "on_degradation"], {"on": ["on_drift"], "cool_down_days": 14}],
    )
    gate: Gate = Field(description="what a version must show before it may become champion")
    shadow: Shadow | None = Field(
        default=None,
        description="a version that passed the gate scores beside the champion, unpublished, before it is decided; by "
        "default it is promoted at once",
        examples=[{"days_with_outcomes": 7}],
    )
    approval: Literal["required"] | Approval | None = Field(
        default=None,
        description="whether a person decides about each version that passed the gate: required, or who may decide and "
        "how long it waits. By default the gate alone decides",
        examples=["required", {"allowed": ["ana", "ben"], "timeout_days": 7}],
    )
    explanations: Explanations | None = Field(
        default=None,
        description="the strongest reasons of each published prediction are stored beside it; by default none are",
        examples=[{"top": 3}],
    )
    champion_messages: Name | None = Field(
        default=None,
        description="the Airflow connection of programs that take the model as data: each change of the "
        "champion is sent there. By default nothing is sent",
        examples=["nightly_models"],
    )
    actions: tuple[AnyAction, ...] = Field(
        default=(),
        description="what is sent to other programs about each published batch: lists of its highest or lowest scores, "
        "or that it is there; a batch that is replaced or withdrawn sends its correction (docs/actions.md)",
        examples=[[{"kind": "top_k", "to": "crm_webhook", "k": 20}]],
    )
    exports: Format | None = Field(
        default=None,
        description="what readers see of each run date is also written as files of this format, for those who cannot "
        "reach the database (docs/exports.md). By default none are",
        examples=["parquet"],
    )
    monitors: tuple[AnyMonitor, ...] = Field(
        default=(), description="of published predictions; a kind that is not listed runs with its defaults"
    )

    @property
    def recorded_as(self) -> tuple[str, str | None]:
        """Project and model of a step's line in the audit."""
        return self.project, self.name

    @property
    def monitored(self) -> MonitoredModel:
        """What monitors know of the model."""
        return MonitoredModel(
            name=self.name,
            project=self.project,
            owner=self.owner,
            outcome=self.outcome,
            problem_type=self.problem_type,
            quantiles=self.quantiles,
            classes=self.classes,
            numeric=self.numeric,
            categorical=self.categorical,
            horizon_days=self.horizon_days,
            train_days=self.train_days,
        )

    @property
    def retrained(self) -> Retrain | None:
        """Which alerts ask for a training; None if none does."""
        if self.retrain is None or isinstance(self.retrain, Retrain):
            return self.retrain
        return Retrain(on=self.retrain if isinstance(self.retrain, tuple) else (self.retrain,))

    @property
    def approved_by(self) -> Approval | None:
        """How people decide about a version that passed the gate; None if the gate alone decides."""
        return Approval() if self.approval == "required" else self.approval

    @property
    def unwritten(self) -> tuple[str, ...]:
        """The keys of the specification that still have a placeholder."""
        texts = {
            "purpose": self.purpose,
            "decision": self.decision,
            "costs.unit": self.costs.unit,
            "built_by": self.built_by,
            "owner": self.owner,
        }
        return tuple(key for key, text in texts.items() if not text.strip() or text.strip().startswith(TO_FILL_IN))

    @property
    def all_checks(self) -> tuple[GateCheck, ...]:
        """The checks of the gate: those listed, and every other kind with its defaults."""
        listed, annotation = self.gate.checks, type(self.gate).model_fields["checks"].annotation
        return with_defaults(annotation, listed, self.problem_type)

    @property
    def champion_check(self) -> Champion:
        """The check against the champion, whose settings decide about a shadow, too."""
        return next(check for check in self.all_checks if isinstance(check, Champion))

    @property
    def all_monitors(self) -> tuple[Monitor, ...]:
        """The monitors: those listed, and every other kind with its defaults."""
        return with_defaults(type(self).model_fields["monitors"].annotation, self.monitors, self.problem_type)

    @field_validator("monitors")
    @classmethod
    def _once(cls, monitors: tuple[AnyMonitor, ...]) -> tuple[AnyMonitor, ...]:
        require_once(monitors)
        return monitors

    @field_validator("actions")
    @classmethod
    def _one_of_each(cls, actions: tuple[AnyAction, ...]) -> tuple[AnyAction, ...]:
        require_once(actions)
        return actions

    @model_validator(mode="after")
    def _retrains_between(self) -> Self:
        if self.retrain is not None and self.train_schedule is None:
            raise ValueError(
                "retrain: the model trains each night, so nothing has to ask for a training; remove it, or declare a "
                "train_schedule that is rarer"
            )
        return self

    @model_validator(mode="after")
    def _checks_fit(self) -> Self:
        try:
            checks = self.all_checks
        except ValueError as error:
            lines = str(error).splitlines()
            raise ValueError("\n".join(f"gate.checks: {line}" for line in lines)) from error
        problems = []
        for check in checks:
            try:
                check.require_fit(self)
            except ValueError as error:
                problems.append(f"gate.checks: {check.kind}: {error}")
        if problems:
            raise ValueError("\n".join(problems))
        return self
