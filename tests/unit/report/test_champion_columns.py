"""The report compares with a champion whose inputs left model.yaml, as the gate does."""

from collections.abc import Sequence
from datetime import date
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
from sklearn.dummy import DummyClassifier

from include.config.loading import load_model
from include.io import postgres
from include.io.registry import LoadedModel
from include.io.report_subjects import _champion
from include.io.training_sets import with_inputs
from tests.own_projects import use_own_projects

ROWS = pl.DataFrame({"day": [date(2013, 3, 1)] * 2, "horizon": [0, 0], "entity_id": ["a", "b"], "hour": [1.0, 2.0]})
ROWS = ROWS.with_columns(pl.col("horizon").cast(pl.Int32))
FEATURES = ROWS.with_columns(gust=pl.Series([7.0, 8.0]), data_view=pl.lit("point_in_time")).drop("horizon")


@pytest.mark.parametrize(("inputs", "missing"), [(("hour", "gust"), None), (("hour", "rain"), "needs rain, which")])
def test_a_column_that_left_model_yaml_is_read_from_the_features(
    monkeypatch: pytest.MonkeyPatch, inputs: tuple[str, ...], missing: str | None
) -> None:
    use_own_projects()
    model = load_model("late_ferry")
    fitted = DummyClassifier(strategy="prior").fit([[0.0]] * 4, [0.0, 1.0, 1.0, 1.0])
    loaded = LoadedModel(fitted, inputs, (), "binary", 0.5)
    registry: Any = SimpleNamespace(
        get_version=lambda *_: SimpleNamespace(version=1),
        get_fit=lambda *_: SimpleNamespace(tags={}),
        load=lambda *_: loaded,
    )
    recorded = SimpleNamespace(mlflow_run="r", tags_digest=None, model_digest="d")
    monkeypatch.setattr(postgres.model_files, "read_versions", lambda *_: {1: recorded})

    def with_columns(wanted: Sequence[str]) -> pl.DataFrame:
        return with_inputs(ROWS, FEATURES.lazy(), [name for name in wanted if name in FEATURES.columns], "latest")

    champion, why = _champion(model, registry, SimpleNamespace(), 1, loaded, with_columns)  # type: ignore[arg-type]
    if missing is None:
        assert (why, champion.score.tolist()) == (None, [0.75, 0.75])
    else:
        assert missing in str(why)
