"""`model.yaml`, as a frozen record."""

from typing import Literal, Self

from pydantic import Field, model_validator

from include.core.errors import nearest
from include.core.project import RunOn
from include.gate.config import GATE_METRICS, Gate
from include.monitoring.config import METRICS, Monitor
from include.training.config import Training


class Model(Training):
    """`model.yaml`."""

    title: str
    owner: str
    run_on: dict[Literal["fit", "score"], RunOn] = Field(default_factory=dict, description="worker by default")
    gate: Gate
    monitor: Monitor = Monitor()

    @property
    def recorded_as(self) -> tuple[str, str | None]:
        """Project and model of a step's line in the audit."""
        return self.project, self.name

    @model_validator(mode="after")
    def _monitor_fits(self) -> Self:
        for rule in self.monitor.rules:
            if rule.metric not in METRICS[self.problem_type]:
                known = METRICS[self.problem_type]
                raise ValueError(
                    f"monitor.rules: {self.problem_type} has no metric {rule.metric!r}{nearest(rule.metric, known)}"
                )
        return self

    @model_validator(mode="after")
    def _gate_fits(self) -> Self:
        gate, names = self.gate, [c.name for c in self.candidates]
        if gate.linear not in names:
            raise ValueError(f"gate.linear: no candidate {gate.linear!r}{nearest(gate.linear, names)}")
        for threshold in (*gate.quality, gate.leakage):
            if threshold.metric not in GATE_METRICS[self.problem_type]:
                raise ValueError(f"gate: {self.problem_type} has no metric {threshold.metric!r}"
                                 f"{nearest(threshold.metric, GATE_METRICS[self.problem_type])}")  # fmt: skip
        for name in [n for n in gate.slices.by if n not in gate.slices.groups]:
            if name not in self.features:
                raise ValueError(f"gate.slices.by: no feature or group {name!r}{nearest(name, self.features)}")
        for name, group in gate.slices.groups.items():
            if group.of not in self.categorical:
                raise ValueError(f"gate.slices.groups.{name}: of: no categorical feature {group.of!r}"
                                 f"{nearest(group.of, self.categorical)}")  # fmt: skip
        needed = {"binary": "calibration_error", "regression": "decision_change"}
        for problem_type, key in needed.items():
            if (getattr(gate, key) is not None) != (self.problem_type == problem_type):
                verb = "is needed for" if self.problem_type == problem_type else "means nothing for"
                raise ValueError(f"gate.{key}: {verb} {self.problem_type}")
        return self
