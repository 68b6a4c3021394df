"""Run all steps of a training outside of Airflow: `python -m tests.faults.train MODEL DAY`."""

import sys
from datetime import date

from include.config.loading import load_model
from include.core.interval import Interval
from include.core.records import GateDecision
from include.core.settings import Settings
from include.runner.run import run


def train(name: str, day: date) -> None:
    model, interval, settings = load_model(name), Interval.of(day), Settings()
    fitted = [run("fit", model, interval, settings, candidate=candidate.name) for candidate in model.candidates]
    evaluated = run("evaluate", model, interval, settings, fitted=fitted)
    decision = run("gate", model, interval, settings, evaluated=evaluated, fitted=fitted)
    assert isinstance(decision, GateDecision)
    if decision.passed:
        run("promote", model, interval.shifted(start=1, end=1), settings, version=decision.model_version)


if __name__ == "__main__":
    train(sys.argv[1], date.fromisoformat(sys.argv[2]))
