"""A model in YAML alone: searched, fitted, gated, promoted, scored and reproduced; real MLflow and PostgreSQL."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from include.config.loading import read_model
from include.config.model import Model
from include.core.interval import Interval
from include.core.settings import Settings
from include.io.tables import Tables
from include.operations.reproduce import reproduce
from include.steps import fit as fit_step
from include.steps.promote import promote
from include.steps.score import score
from include.training.search import Trial
from include.training.training_set import TrainingSet
from tests.integration.training import FERRIES, PROJECT, after, client, fit_all, fit_one, runs, train_and_gate

pytestmark = pytest.mark.timeout(600)

CANDIDATES = """
candidates:
  - name: linear
    estimator: {kind: linear, alpha: 10}
    transforms:
      - {kind: remove_outlier_rows, columns: [temperature_f], fold: 2}
      - {kind: drop_constant}
      - {kind: impute, by: random_sample, columns: [wind_gust_mph]}
      - {kind: target_mean, columns: [dest]}
      - {kind: select_l1, alpha: 0.001, columns: [leaving_hour, month, humidity_percent]}
  - name: boosted
    estimator: {kind: boosted, max_iter: 15}
    transforms:
      - {kind: rare_labels, less_than: 0.05}
    search:
      trials: 4
      seed: 5
      folds: 2
      ranges:
        learning_rate: {low: 0.02, high: 0.3, log: true}
        min_samples_leaf: {low: 20, high: 80}

"""
DAYS = """
train_days: 19
validation_days: 3
holdout_days: 5
min_fit_days: 8
gate:
  checks:
    - {kind: enough_rows, at_least: 400}
    - {kind: quality, metric: roc_auc, at_least: 0.7}
    - {kind: calibration, at_most: 0.15}
    - {kind: calibration_error, at_most: 0.2}
    - {kind: linear_baseline, at_most: 0.1}
    - {kind: champion, at_most: 0.1, min_rows: 400}
    - {kind: slices, by: [origin], min_rows: 100, at_most: 0.1}
    - {kind: leakage_check, metric: roc_auc, at_most: 0.97}
    - {kind: scoring_time, at_most: 5000}
"""


@pytest.fixture
def model(tmp_path: Path) -> Model:
    """Return the model of a folder that has model.yaml and nothing else."""
    declared = (PROJECT.folder / "models" / "late_ferry" / "model.yaml").read_text(encoding="utf-8")
    file = tmp_path / "late_ferry" / "model.yaml"
    file.parent.mkdir()
    file.write_text(declared.split("\ncandidates:")[0] + CANDIDATES + DAYS, encoding="utf-8")
    return read_model(file, PROJECT)


def below_search(settings: Settings) -> dict[str, float]:
    """Return the loss of each finished trial in MLflow."""
    found = [run for run in runs(settings) if "search_trial" in run.data.tags and run.info.status == "FINISHED"]
    return {str(run.info.run_name): run.data.metrics["loss"] for run in found}


def test_a_model_in_yaml_alone_goes_from_search_to_scores(
    prepared: Settings, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    try_, train, seen = fit_step._try, fit_step.train, list[tuple[Interval, Interval]]()
    tried: list[int] = []

    def killed(given: Model, candidate: Any, parts: Any, number: int, params: Mapping[str, Any]) -> Trial:
        if number == 2 and 2 not in tried:
            tried.append(number)
            raise KeyboardInterrupt
        tried.append(number)
        return try_(given, candidate, parts, number, params)

    def watched(given: Model, candidate: Any, training_set: TrainingSet) -> Any:
        seen.append((training_set.fit, training_set.validation))
        return train(given, candidate, training_set)

    monkeypatch.setattr(fit_step, "_try", killed)
    monkeypatch.setattr(fit_step, "train", watched)
    with pytest.raises(KeyboardInterrupt):
        fit_one(prepared, "boosted", model)
    assert below_search(prepared).keys() == {"trial 0", "trial 1"}
    fitted = fit_all(prepared, model)
    assert tried == [0, 1, 2, 2, 3], "stored trials are not tried again"
    assert below_search(prepared).keys() == {f"trial {number}" for number in range(4)}
    last = fitted[1].interval.end
    of_search = [each for each in seen if each[1].end <= last]
    assert len(of_search) == 2 * 4, "two folds of four trials, and nothing later than the days to fit on"
    assert all(fit.end < compared.start for fit, compared in of_search)

    run = client(prepared).get_run(fitted[1].run_id)
    losses = below_search(prepared)
    assert run.data.tags["search_trials"] == "4 of 4 trials"
    best = min(losses, key=lambda name: losses[name])
    parent = next(each for each in runs(prepared) if "search_digest" in each.data.tags)
    assert parent.data.tags["search_best"] == best
    assert parent.info.status == "FINISHED"
    assert run.data.params["learning_rate"] == parent.data.params["learning_rate"]
    assert run.data.params["estimator"] == "boosted"
    assert fit_all(prepared, model) == [each.model_copy(update={"logged": False}) for each in fitted]

    decision = train_and_gate(prepared, model)
    assert decision.passed, decision.why_not
    promote(model, after(1), prepared, version=1)
    assert score(model, after(1), prepared, versions={after(1).start: 1}).rows == FERRIES
    before = Tables(prepared).scan("scores_late_ferry").collect()
    score(model, after(1), prepared, versions={after(1).start: 1})
    assert Tables(prepared).scan("scores_late_ferry").collect().equals(before)
    tried.clear()
    again = reproduce(model, 1, prepared)
    assert (again.differing, again.changed) == (0, ())
    assert tried == [], "the settings that were found are used again"
