"""The frozen models of the example projects score the frozen features as they did (tests/differential)."""

from pathlib import Path

import polars as pl
import pytest

from include.config.loading import load_model
from include.io.registry import score_rows
from include.io.registry.models import LoggedModel, ModelFiles, load_files
from tests.differential import frozen
from tools.stack import ROOT

FROZEN = [
    pytest.param(path, id=path.name.partition(".")[0]) for path in sorted(ROOT.glob("tests/*/reference/models/*"))
]


@pytest.mark.parametrize("packed", FROZEN)
def test_a_frozen_model_scores_frozen_features_as_it_did(packed: Path) -> None:
    model = load_model(packed.name.partition(".")[0])
    was = frozen.Frozen.load(model.project)
    with frozen.unpacked(packed) as folder:
        loaded = load_files(
            ModelFiles.within(folder), LoggedModel(str(folder), f"frozen {model.name}", "accept"), model.serialization
        )
    before = was.scores.filter(model=model.name)
    rows = was.features.join(before, on=frozen.KEY)
    assert len(rows) == len(before)
    scored = score_rows(loaded, 1, rows.with_columns(as_of=None, features_version=0).sort("day", *frozen.KEY))
    both = before.join(scored, on=frozen.KEY, suffix="_now")
    assert len(both) == len(before) > 0
    largest = both.select((pl.col("score") - pl.col("score_now")).abs().max()).item()
    assert largest <= 1e-9 * before["score"].abs().max()  # type: ignore[operator]


class TestCompare:
    """Planted changes of a frozen run."""

    @pytest.fixture
    def was(self) -> frozen.Frozen:
        if not FROZEN:
            pytest.skip("no example project is here")
        return frozen.Frozen.load(FROZEN[0].values[0].parents[2].name)  # type: ignore[union-attr]

    def test_nothing_differs_from_itself(self, was: frozen.Frozen) -> None:
        assert frozen.compare(was, was) == []

    def test_one_changed_number_a_lost_row_and_a_new_column_of_features_are_named(self, was: frozen.Frozen) -> None:
        number = next(name for name, dtype in was.features.schema.items() if dtype.is_float())
        key = was.features["entity_id"][3]
        changed = pl.when(entity_id=pl.lit(key)).then(pl.col(number).fill_null(0.0) + 1e-3).otherwise(number)
        now = was.features.with_columns(changed.alias(number), added=1).slice(1)
        found = frozen.compare_features(was.features, now)
        assert [each.what for each in found] == ["features: columns", "features: rows", "features"]
        assert found[-1].where.startswith(f"{number}, 1 of ") and found[-1].where.endswith(key)
        assert "make accept" in frozen.in_words("ferries", found)

    def test_scores_that_moved_are_named(self, was: frozen.Frozen) -> None:
        moved = was.scores.with_columns(score=pl.col("score") * 1.01)
        assert {each.what for each in frozen.compare_scores(was.scores, moved)} == {"scores"}

    def test_a_verdict_a_value_and_a_check_that_is_gone_are_named(self, was: frozen.Frozen) -> None:
        now = was.checks.with_row_index().with_columns(
            passed=pl.when(index=0).then(~pl.col("passed")).otherwise("passed"),
            measured=pl.when(index=1).then(pl.col("measured") * 1.1).otherwise("measured"),
        )
        found = frozen.compare_checks(was.checks, now.filter(pl.col("index") != 2).drop("index"))
        assert [each.what for each in found] == ["gate: checks", "gate: verdict", "gate: measured"]
