"""The corpus of listings: what a supplier can put into a folder, and what of it is a delivery. See `listings.yaml`."""

from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from include.config.loading import load_project
from include.core.paths import refuse_path
from include.core.yaml_file import read_yaml
from include.io.landing import Landing
from tests.landing import places

CASES: list[dict[str, Any]] = read_yaml(Path(__file__).parents[1] / "corpus" / "listings.yaml")["cases"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["rule"])
def test_case(case: dict[str, Any], tmp_path: Path) -> None:
    if "undeclared" in case:
        with pytest.raises(ValueError) as caught:  # noqa: PT011 (its sentence is compared)
            refuse_path(case["path"])
        assert case["undeclared"] in str(caught.value)
        return
    refuse_path(case["path"])
    settings, project = places(tmp_path), load_project("ferries")
    feed = project.feeds["sailings"].model_copy(update={"path": case["path"]})
    landing = Landing(project.model_copy(update={"feeds": {"sailings": feed}}), settings)
    for key in case["keys"]:
        file = Path(settings.landing) / "ferries" / key
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"content")
    for day in (None, date(2024, 3, 4)):
        listing = landing.look({"sailings": day})
        assert [(found.key, found.day) for found in listing.found if found.day == date(2024, 3, 4)] == [
            (key, date(2024, 3, 4)) for key in case["found"]
        ]
        whys = [unusable.why for unusable in listing.unusable]
        assert len(whys) == len(case.get("said", []))
        assert all(said in why and why.isprintable() for said, why in zip(case.get("said", []), whys, strict=True))


def test_no_two_cases_have_the_same_rule() -> None:
    assert max(Counter(case["rule"] for case in CASES).values()) == 1
