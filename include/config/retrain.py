"""The section `retrain` of `model.yaml`: which alerts start a training of a model that does not train nightly. Pure."""

from collections.abc import Collection, Iterable
from typing import Literal

from pydantic import Field

from include.core.base import Config
from include.core.records import Alert

Reason = Literal["on_drift", "on_degradation"]

_BEGINS: dict[Reason, str] = {"on_drift": "drift", "on_degradation": "degradation"}
"""How the rules begin whose alerts are a reason. Rules of the monitor `performance` are degradation, too."""


class Retrain(Config):
    """Which alerts ask for a training, and how many run dates must be between two requests."""

    on: tuple[Reason, ...] = Field(
        min_length=1, description="alerts of drift, of degradation, or both", examples=[["on_drift", "on_degradation"]]
    )
    cool_down_days: int = Field(
        default=7,
        ge=1,
        description="run dates after a request whose training began on which no training is asked for",
        examples=[14],
    )

    def reasons(self, alerts: Iterable[Alert], performance_rules: Collection[str]) -> list[Alert]:
        """Return the alerts that ask for a training.

        Args:
            alerts: the alerts about the model on a run date.
            performance_rules: the names of the rules of the monitor `performance`.
        """
        begins = tuple(_BEGINS[reason] for reason in self.on)
        own = performance_rules if "on_degradation" in self.on else ()
        return [alert for alert in alerts if alert.rule.startswith(begins) or alert.rule in own]
