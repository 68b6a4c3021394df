"""The section `approval` of `model.yaml`: who decides whether a version that passed the gate becomes the champion."""

from datetime import timedelta

from pydantic import Field, field_validator

from include.core.base import Config
from include.core.lifecycle import is_person


class Approval(Config):
    """A person decides about each version that passes the gate. Until then it is pending and the champion stays."""

    allowed: tuple[str, ...] = Field(
        default=(),
        description="the users who may decide, as Airflow names them; by default everybody who may answer",
        examples=[["ana", "ben"]],
    )
    timeout_days: int = Field(
        default=7, ge=1, le=90, description="days after which a version that nobody decided about expires"
    )

    @property
    def timeout(self) -> timedelta:
        """How long a version is pending."""
        return timedelta(days=self.timeout_days)

    @field_validator("allowed")
    @classmethod
    def _people(cls, allowed: tuple[str, ...]) -> tuple[str, ...]:
        if wrong := [name for name in allowed if not name.strip() or not is_person(name)]:
            raise ValueError(f"{wrong[0]!r} is not a person; name users of Airflow")
        return allowed
