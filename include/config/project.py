"""`project.yaml` with the monitors of the pipeline: what `config` composes, since `core` knows no monitors."""

from typing import Self

from pydantic import Field, model_validator

from include.core.project import Project
from include.core.variants import require_once, with_defaults
from include.monitoring.pipeline import AnyProjectMonitor, ProjectMonitor


class WatchedProject(Project):
    """`project.yaml`."""

    monitors: tuple[AnyProjectMonitor, ...] = Field(
        default=(), description="of the pipeline itself; a kind that is not listed runs with its defaults"
    )

    @property
    def all_monitors(self) -> tuple[ProjectMonitor, ...]:
        """The monitors: those listed, and every other kind with its defaults."""
        return with_defaults(type(self).model_fields["monitors"].annotation, self.monitors, "")

    @model_validator(mode="after")
    def _monitors_fit(self) -> Self:
        try:
            require_once(self.monitors)
        except ValueError as error:
            raise ValueError(f"monitors: {error}") from error
        for monitor in self.all_monitors:
            try:
                monitor.require_fit(self)
            except ValueError as error:
                raise ValueError(f"monitors: {monitor.kind}: {error}") from error
        return self
