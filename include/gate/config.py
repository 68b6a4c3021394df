"""The section `gate` of `model.yaml`: the checks that a version must pass before it may become champion."""

from typing import Self

from pydantic import Field, model_validator

from include.core.base import Config
from include.core.variants import require_once
from include.gate.checks import AnyCheck


class Gate(Config):
    """What a version must show on the holdout days before it may become champion.

    The gate fails closed: a check that is not listed runs with its defaults, and one that has no safe default must be
    listed. Shares are of 1: 0.02 is 2 %.
    """

    checks: tuple[AnyCheck, ...] = Field(description="in any order; a kind that is not listed runs with its defaults")

    @model_validator(mode="after")
    def _once(self) -> Self:
        require_once(self.checks)
        return self
