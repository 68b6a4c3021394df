"""How a project's pipeline itself is monitored: one file for each `kind`, with settings, rules and sentences. Pure.

To add one: its file and one entry in `AnyProjectMonitor`. `ProjectWatch` says what a monitor may read.
"""

from typing import Annotated

from pydantic import Field

from include.monitoring.pipeline.base import ProjectMonitor as ProjectMonitor
from include.monitoring.pipeline.base import ProjectWatch as ProjectWatch
from include.monitoring.pipeline.budget import BudgetMonitor
from include.monitoring.pipeline.changes import ChangesMonitor
from include.monitoring.pipeline.punctuality import PunctualityMonitor
from include.monitoring.pipeline.quality import QualityMonitor
from include.monitoring.pipeline.steps import StepsMonitor

AnyProjectMonitor = Annotated[
    StepsMonitor | PunctualityMonitor | QualityMonitor | ChangesMonitor | BudgetMonitor, Field(discriminator="kind")
]
"""Every monitor of a project. `kind` says which one an entry of `project.yaml` is."""
