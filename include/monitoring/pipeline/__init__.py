"""How a project's pipeline itself is monitored: one file for each `kind`, with settings, rules and sentences. Pure.

To add one: its file and one entry in `AnyProjectMonitor`. `ProjectWatch` says what a monitor may read.
"""

from include.monitoring.pipeline.base import ProjectMonitor as ProjectMonitor
from include.monitoring.pipeline.base import ProjectWatch as ProjectWatch
from include.monitoring.pipeline.steps import StepsMonitor

AnyProjectMonitor = StepsMonitor
"""Every monitor of a project. `kind` says which one an entry of `project.yaml` is."""
