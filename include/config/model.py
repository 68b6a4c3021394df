"""`model.yaml`, as a frozen record."""

from typing import Literal, Self

from pydantic import Field, model_validator

from include.core.errors import nearest
from include.core.project import RunOn
from include.gate.config import Gate
from include.monitoring.config import Monitor
from include.training.config import Training
from include.training.problem_types import PROBLEM_TYPES, get_problem_type


class Model(Training):
    """`model.yaml`."""

    title: str = Field(description="the model's name for people", examples=["Revenue of a day"])
    owner: str = Field(description="the team that answers for it; the owner of its DAGs", examples=["data-science"])
    run_on: dict[Literal["fit", "score"], RunOn] = Field(
        default_factory=dict,
        description="where a step runs: on the worker by default",
        examples=[{"fit": "databricks"}],
    )
    gate: Gate = Field(description="what a version must show before it may become champion")
    monitor: Monitor = Field(default=Monitor(), description="how its published predictions are watched")

    @property
    def recorded_as(self) -> tuple[str, str | None]:
        """Project and model of a step's line in the audit."""
        return self.project, self.name

    @model_validator(mode="after")
    def _monitor_fits(self) -> Self:
        for rule in self.monitor.rules:
            if rule.metric not in get_problem_type(self.problem_type).performance_metrics:
                known = get_problem_type(self.problem_type).performance_metrics
                raise ValueError(
                    f"monitor.rules: {self.problem_type} has no metric {rule.metric!r}{nearest(rule.metric, known)}"
                )
        return self

    @model_validator(mode="after")
    def _gate_fits(self) -> Self:
        gate, names = self.gate, [c.name for c in self.candidates]
        if gate.linear not in names:
            raise ValueError(f"gate.linear: no candidate {gate.linear!r}{nearest(gate.linear, names)}")
        usable = get_problem_type(self.problem_type).gate_metrics
        for threshold in (*gate.quality, gate.leakage):
            if threshold.metric not in usable:
                raise ValueError(f"gate: {self.problem_type} has no metric {threshold.metric!r}"
                                 f"{nearest(threshold.metric, usable)}")  # fmt: skip
        for name in [n for n in gate.slices.by if n not in gate.slices.groups]:
            if name not in self.features:
                raise ValueError(f"gate.slices.by: no feature or group {name!r}{nearest(name, self.features)}")
        for name, group in gate.slices.groups.items():
            if group.of not in self.categorical:
                raise ValueError(f"gate.slices.groups.{name}: of: no categorical feature {group.of!r}"
                                 f"{nearest(group.of, self.categorical)}")  # fmt: skip
        for key in sorted({key for each in PROBLEM_TYPES.values() for key in each.gate_settings}):
            needed = key in get_problem_type(self.problem_type).gate_settings
            if (getattr(gate, key) is not None) != needed:
                raise ValueError(
                    f"gate.{key}: {'is needed for' if needed else 'means nothing for'} {self.problem_type}"
                )
        return self
