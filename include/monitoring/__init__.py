"""How a model is monitored: one file for each `kind` of monitor, with its settings, its rules and its sentences. Pure.

To add one: its file and one entry in `AnyMonitor`. `Watch` says what a monitor may read of the shared database. Reading
it belongs to `steps/monitor.py`, and sending alerts to `dags/alerts.py`.
"""

from typing import Annotated

from pydantic import Field

from include.monitoring.base import Monitor as Monitor
from include.monitoring.degradation import DegradationMonitor
from include.monitoring.drift import DriftMonitor
from include.monitoring.estimate import EstimateMonitor
from include.monitoring.freshness import FreshnessMonitor
from include.monitoring.performance import PerformanceMonitor
from include.monitoring.scores import ScoresMonitor
from include.monitoring.skew import SkewMonitor

AnyMonitor = Annotated[
    PerformanceMonitor
    | FreshnessMonitor
    | DriftMonitor
    | ScoresMonitor
    | SkewMonitor
    | DegradationMonitor
    | EstimateMonitor,
    Field(discriminator="kind"),
]
"""Every monitor. `kind` says which one an entry of `model.yaml` is."""
