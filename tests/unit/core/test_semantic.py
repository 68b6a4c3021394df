from collections.abc import Callable
from pathlib import Path

import pytest

from include.config.loading import load_model
from include.config.model import Model
from include.core.semantic import SemanticVersion, next_version
from include.training.config import Candidate
from include.training.declaration import declared_parts

BEFORE = SemanticVersion(1, 4, 2)
MODEL = load_model("late_ferry")
SQL = "delay_minutes > 15"


def parts(model: Model = MODEL, sql: str = SQL, candidate: str = "linear") -> dict[str, str]:
    return declared_parts(model, sql, candidate)


def changed(**values: object) -> Model:
    return MODEL.model_copy(update=values)


def named(*candidates: Candidate) -> Model:
    return changed(candidates=candidates)


LINEAR, BOOSTED = MODEL.candidates


@pytest.mark.parametrize(
    ("now", "version", "says"),
    [
        (parts(changed(outcome="cancelled")), "2.0.0", "changed: outcome"),
        (parts(sql="delay_minutes > 30"), "2.0.0", "changed: outcome"),
        (parts(changed(numeric=MODEL.numeric[1:])), "2.0.0", "changed: features"),
        (parts(changed(categorical=(*MODEL.categorical, "boat"))), "2.0.0", "changed: features"),
        (parts(changed(problem_type="count")), "2.0.0", "changed: problem_type"),
        (parts(changed(quantiles=(0.05, 0.5, 0.95))), "2.0.0", "changed: problem_type"),
        (parts(changed(horizon_days=6)), "2.0.0", "changed: horizon_days"),
        (parts(changed(horizon_days=6, seed=9)), "2.0.0", "changed: horizon_days, seed"),
        (parts(candidate="boosted"), "1.5.0", "changed: candidate, parameters"),
        (parts(named(Candidate(name="linear", params={"kind": "linear", "C": 1.0}))), "1.5.0", "changed: parameters"),
        (parts(changed(train_days=90)), "1.5.0", "changed: train_days"),
        (parts(changed(decision_threshold=0.77)), "1.5.0", "changed: decision_threshold"),
        (parts(), "1.4.3", "trained again"),
        (parts(named(LINEAR)), "1.4.3", "trained again"),  # another candidate is gone
        (parts(changed(numeric=MODEL.numeric[::-1])), "1.4.3", "trained again"),
        (parts(changed(title="Late", owner="others")), "1.4.3", "trained again"),
    ],
)
def test_what_changed_decides_the_number_that_grows(now: dict[str, str], version: str, says: str) -> None:
    found, why = next_version(BEFORE, parts(), now)
    assert (str(found), why) == (version, says)


def test_code_of_the_estimator_is_part_of_the_recipe(tmp_path: Path) -> None:
    code = (MODEL.folder / "estimator.py").read_text(encoding="utf-8")

    def with_code(text: str) -> dict[str, str]:
        (tmp_path / "estimator.py").write_text(text, encoding="utf-8")
        return parts(changed(folder=tmp_path))

    assert next_version(BEFORE, with_code(code), with_code(code + "\nEXTRA = 1\n"))[1] == "changed: estimator.py"
    assert next_version(BEFORE, with_code(code), with_code(code + "\n# a comment\n"))[1] == "trained again"


def test_code_of_the_estimator_does_not_count_for_a_candidate_that_does_without(tmp_path: Path) -> None:
    def with_code(text: str) -> dict[str, str]:
        (tmp_path / "estimator.py").write_text(text, encoding="utf-8")
        declared = Candidate.model_validate({"name": "linear", "estimator": {"kind": "linear"}})
        return parts(changed(folder=tmp_path, candidates=(declared, *MODEL.candidates[1:])))

    assert next_version(BEFORE, with_code("A = 1\n"), with_code("A = 2\n"))[1] == "trained again"


def test_the_first_version_of_a_model_is_1_0_0() -> None:
    assert next_version(None, {}, parts()) == (SemanticVersion(1, 0, 0), "the first version")


def test_a_version_after_one_whose_declaration_was_not_recorded_promises_nothing() -> None:
    assert str(next_version(BEFORE, {}, parts())[0]) == "2.0.0"
    assert str(next_version(BEFORE, {}, {})[0]) == "2.0.0"


def test_of_an_adopted_model_only_what_it_predicts_and_reads_counts() -> None:
    adopted = parts(candidate="adopted")
    assert next_version(BEFORE, adopted, parts(changed(train_days=90), candidate="adopted"))[1] == "trained again"
    assert next_version(BEFORE, adopted, parts(changed(outcome="cancelled"), candidate="adopted"))[0].major == 2
    assert next_version(BEFORE, parts(), adopted)[0].minor == 5


def test_versions_are_ordered_by_numbers_and_not_by_text() -> None:
    assert max(map(SemanticVersion.of, ["1.9.0", "1.10.0", "1.2.30"])) == SemanticVersion(1, 10, 0)


@pytest.mark.parametrize("text", ["1.2", "1.2.3-pending", "v1.2.3", "1.2.3.4", ""])
def test_other_texts_are_no_versions(text: str) -> None:
    read: Callable[[str], SemanticVersion] = SemanticVersion.of
    with pytest.raises(ValueError, match="not a semantic version"):
        read(text)
