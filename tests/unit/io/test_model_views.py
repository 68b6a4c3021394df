"""The views `<model>_predictions`: names that are taken."""

import pytest

from include.config.loading import load_model, load_project
from include.core.errors import ConfigError
from include.io.postgres.migrations import model_views


@pytest.mark.parametrize("name", ["current", "newest", "replaced"])
def test_a_model_cannot_have_the_name_of_a_view_of_the_product(name: str) -> None:
    with pytest.raises(ConfigError, match=f"model cannot be named {name}: {name}_predictions is a view of the product"):
        model_views._require_name(load_model("late_ferry").model_copy(update={"name": name}))


def test_a_public_column_named_like_one_of_the_view_gets_another_name() -> None:
    ferries = load_project("ferries")
    columns = dict(ferries.feeds["sailings"].columns)
    columns |= dict.fromkeys(("score", "error", "entity_score"), columns["origin"])
    sailings = ferries.feeds["sailings"].model_copy(update={"columns": columns})
    entity = ferries.entity.model_copy(update={"public": ("entity_score", "score", "error", "origin")})
    changed = ferries.model_copy(update={"feeds": {**ferries.feeds, "sailings": sailings}, "entity": entity})
    found = model_views.columns_of(changed, load_model("late_ferry"))
    assert [(name, value) for name, (value, _) in found.items() if value.startswith("e.")] == [
        ("entity_score", 'e."entity_score"'),
        ("entity_entity_score", 'e."score"'),
        ("entity_error", 'e."error"'),
        ("origin", 'e."origin"'),
    ]
    assert found["score"][0] == "p.score"
