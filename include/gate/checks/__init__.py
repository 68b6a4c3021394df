"""The checks of the gate: one file for each `kind`, with its settings, its measurement and its sentence.

To add one: its file and one entry in `AnyCheck`. Reading rows and models belongs to `steps/gate.py`.
"""

from typing import Annotated

from pydantic import Field

from include.gate.checks.base import GateCheck as GateCheck
from include.gate.checks.calibration import Calibration
from include.gate.checks.calibration_error import CalibrationError
from include.gate.checks.champion import Champion
from include.gate.checks.changed_decisions import ChangedDecisions
from include.gate.checks.dummy_baseline import DummyBaseline
from include.gate.checks.enough_rows import EnoughRows
from include.gate.checks.fairness import Fairness
from include.gate.checks.former_champions import FormerChampions
from include.gate.checks.leakage_check import LeakageCheck
from include.gate.checks.linear_baseline import LinearBaseline
from include.gate.checks.newer_inputs import NewerInputs
from include.gate.checks.quality import Quality
from include.gate.checks.score_shift import ScoreShift
from include.gate.checks.scoring_time import ScoringTime
from include.gate.checks.seasonal_naive import SeasonalNaive
from include.gate.checks.shuffled_labels import ShuffledLabels
from include.gate.checks.signature import Signature
from include.gate.checks.single_input import SingleInput
from include.gate.checks.size import Size
from include.gate.checks.slices import Slices

AnyCheck = Annotated[
    EnoughRows
    | Quality
    | Calibration
    | CalibrationError
    | DummyBaseline
    | LinearBaseline
    | SeasonalNaive
    | Champion
    | Slices
    | Fairness
    | ChangedDecisions
    | ScoreShift
    | LeakageCheck
    | SingleInput
    | NewerInputs
    | ScoringTime
    | Size
    | Signature
    | FormerChampions
    | ShuffledLabels,
    Field(discriminator="kind"),
]
"""Every check, in the order in which a person would ask; those that cost most come last.

`kind` says which one an entry of `model.yaml` is.
"""
