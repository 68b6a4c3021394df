"""Which columns and names exports have. tests/integration/test_exports.py has the files."""

from datetime import date

import pytest

from include.config.loading import load_model, load_project
from include.core.exports import exported_columns, folder_of
from include.core.project import Project
from include.io.postgres.migrations.model_views import columns_of
from tests.own_projects import use_own_projects

use_own_projects()
PROJECT = load_project("ferries")
MODEL = load_model("late_ferry")


def columns(project: Project, problem_type: str = "binary") -> tuple[str, ...]:
    model = MODEL.model_copy(update={"problem_type": problem_type})
    return exported_columns(project, columns_of(project, model))


def test_a_file_has_what_is_known_at_publish_and_no_outcome() -> None:
    assert columns(PROJECT) == (
        "day", "target_day", "horizon", "entity_id", *PROJECT.entity.public, "score", "prediction", "model_version",
        "semantic_version", "as_of", "batch_id",
    )  # fmt: skip
    assert {"lower", "upper"} <= {*columns(PROJECT, "quantile")}
    assert {"label", "probabilities"} <= {*columns(PROJECT, "multiclass")}


def test_what_is_not_public_stays_in_the_database() -> None:
    feed = PROJECT.feeds["sailings"]
    hashed = feed.columns["company"].model_copy(update={"data_class": "identifier"})
    feeds = {**PROJECT.feeds, "sailings": feed.model_copy(update={"columns": {**feed.columns, "company": hashed}})}
    entity = PROJECT.entity.model_copy(update={"public": ("origin",)})
    found = columns(PROJECT.model_copy(update={"feeds": feeds, "entity": entity}))
    assert found[:5] == ("day", "target_day", "horizon", "origin", "score"), "entity_id is made of an identifier"


def test_each_run_date_has_a_folder() -> None:
    assert folder_of("ferries", "late_ferry", date(2026, 3, 1)) == "ferries/late_ferry/2026-03-01"


def test_a_format_that_nobody_writes_is_refused() -> None:
    declared = dict(MODEL) | {"exports": "xlsx"}
    with pytest.raises(ValueError, match=r"exports\n.*'parquet' or 'csv'"):
        type(MODEL).model_validate(declared)
