"""Tables written by several processes at once: no row is lost and none is doubled."""

from collections.abc import Iterator
from datetime import date, timedelta

import pytest

from include.core.settings import Settings
from include.io import storage
from include.io.tables import Tables
from tests.integration.processes import Processes, processes
from tests.landing import places
from tests.s3 import on_s3
from tests.writers import TABLE, by_replace, frame, rows_of, stored, written

FIRST = date(2013, 3, 1)
OTHER = date(2013, 4, 1)
FOUR = [FIRST + timedelta(days=n) for n in range(4)]
MIXES = {
    "rows": ["replace"] * 4,
    "functions": ["function"] * 4,
    "files": ["files"] * 4,
    "all": ["replace", "files", "function", "files"],
}


# each request to the S3 server takes time; by the scope, the processes are started once for each place
WHERE = pytest.mark.parametrize(
    ("settings", "mix"), [*(("folder", mix) for mix in MIXES), ("s3", "all")], indirect=["settings"], scope="module"
)


@pytest.fixture(scope="module")
def settings(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    found = places(tmp_path_factory.mktemp("tables"))
    return found if request.param == "folder" else on_s3(found, request.getfixturevalue("s3"))


@pytest.fixture(scope="module")
def four(settings: Settings) -> Iterator[Processes]:
    with processes(settings, 4) as started:
        yield started


@pytest.fixture
def tables(settings: Settings) -> Tables:
    """Return empty tables at the place that the processes use."""
    tables = Tables(settings)
    if tables.exists(TABLE):
        filesystem, path = storage.filesystem(settings, tables.uri(TABLE))
        filesystem.rm(path, recursive=True)
    return tables


@WHERE
@pytest.mark.parametrize("before", ["no table", "empty table"])
def test_writers_of_different_days_all_commit(tables: Tables, four: Processes, mix: str, before: str) -> None:
    if before == "empty table":
        tables.create(TABLE, frame(FIRST).schema)
    orders = [
        {"do": "write", "how": how, "day": str(day), "who": f"p{n}"}
        for n, (how, day) in enumerate(zip(MIXES[mix], FOUR, strict=True))
    ]
    made = four.all([*orders])
    assert len(set(made)) == 4
    assert stored(tables) == rows_of(*(written(day, f"p{n}") for n, day in enumerate(FOUR)))
    for n, version in enumerate(made):  # each version has the rows of one more writer
        assert set(written(FOUR[n], f"p{n}").iter_rows()) <= set(stored(tables, version))


@WHERE
@pytest.mark.parametrize("before", ["no table", "empty partition", "filled partition"])
def test_writers_of_one_day_leave_the_rows_of_one_writer(
    tables: Tables, four: Processes, mix: str, before: str
) -> None:
    """The partition of another day, which existed before, is kept."""
    others = []
    if before != "no table":
        by_replace(tables, OTHER, "other")
        others = [written(OTHER, "other")]
    if before == "filled partition":
        by_replace(tables, FIRST, "before")
    made = four.all([
        {"do": "write", "how": how, "day": str(FIRST), "who": f"p{n}"} for n, how in enumerate(MIXES[mix])
    ])
    assert len(set(made)) == 4
    for n, version in enumerate(made):
        assert stored(tables, version) == rows_of(written(FIRST, f"p{n}"), *others)
    last = made.index(max(made))
    assert stored(tables) == rows_of(written(FIRST, f"p{last}"), *others)
