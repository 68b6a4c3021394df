"""A fit holds its matrix once, beside what the estimator needs; measured in a process of its own."""

import json
import subprocess
import sys

import pytest

PROCESS = """
import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from include.config.loading import load_model
from include.core.interval import Interval
from include.io.registry import LoadedModel
from include.steps import fit
from include.training.labelled_rows import LabelledRows
from include.training.training_set import TrainingSet

FIRST, DAYS, ROWS, NUMBERS = date(2026, 1, 1), 30, 15_000, [f"n{n}" for n in range(40)]


def rows_of(block):
    rng = np.random.default_rng(block.start.toordinal())
    label = rng.integers(0, 2, ROWS).astype(float)
    return pl.DataFrame(
        {"day": [block.start] * ROWS, "entity_id": [f"entity {n:09}" for n in range(ROWS)], "horizon": [0] * ROWS}
        | {name: rng.normal(size=ROWS) for name in NUMBERS}
        | {"port": rng.choice(["Bat", "Pau"], ROWS), "label": label},
        schema_overrides={"horizon": pl.Int32},
    )


class Estimator:
    def fit(self, inputs, labels):
        self.size = len(inputs) * len(NUMBERS) * 8
        return self

    def predict_proba(self, inputs):
        return np.full((len(inputs), 2), 0.5)


def growth(work):
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = status("VmRSS")
    made = work()
    return made, status("VmHWM") - before


def status(key):
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key + ":"))


days = [Interval.of(FIRST + timedelta(days=n)) for n in range(DAYS)]
until, last = Interval(start=FIRST, end=days[-2].end), days[-1]
model = load_model("late_ferry").model_copy(update={"numeric": tuple(NUMBERS), "categorical": ("port",)})
fit._build = lambda model, candidate: Estimator()


def training_set():
    rows = LabelledRows.in_blocks(days, rows_of)
    return TrainingSet(last.end, datetime.now(UTC), rows, until, last, last, ())


fit.train(model, model.candidates[0], TrainingSet(
    last.end, datetime.now(UTC), LabelledRows.in_blocks(days[:2], rows_of), days[0], days[1], days[1], ()
))  # what is imported or started once
made, of_reading = growth(training_set)
estimator, of_fit = growth(lambda: fit.train(model, model.candidates[0], made))
rows = made.fitted_rows
scores, of_scores = growth(lambda: LoadedModel.of(model, estimator).predict(rows))
assert len(scores) == rows.height == (DAYS - 1) * ROWS
print(json.dumps({"matrix": estimator.size, "reading": of_reading, "fit": of_fit, "scores": of_scores}))
"""


@pytest.mark.timeout(300)
@pytest.mark.skipif(sys.platform != "linux", reason="the highest memory of a process since a moment is Linux's")
def test_a_fit_holds_its_matrix_once_whatever_the_rows_and_scores_hold_a_part_of_it() -> None:
    done = subprocess.run([sys.executable, "-c", PROCESS], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    share = {name: found[name] / found["matrix"] for name in ("reading", "fit", "scores")}
    assert share["reading"] < 0.3, share
    assert share["fit"] < 1.4, share
    assert share["scores"] < 0.6, share
