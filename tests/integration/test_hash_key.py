"""The hash key stays the same: a weak one and another one are refused in words, and nothing is hashed with them."""

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from include.config.loading import load_project
from include.core.errors import ConfigError
from include.core.interval import Interval
from include.core.personal import HashKey
from include.core.project import Project
from include.core.settings import Settings
from include.io import postgres
from include.io.journal import export, restore
from include.steps.extract import extract
from include.steps.land import land
from include.steps.validate import validate
from tests.conftest import Install
from tests.integration.shop import FIRST, PostgreSQL, prices
from tests.landing import DAY, deliver_day, made_beside_landing, rows_of

SHOP_DAY = FIRST + timedelta(days=4)
RUN_DATE, NEXT = Interval.of(DAY), Interval.of(DAY + timedelta(days=1))


@pytest.fixture
def project() -> Project:
    return load_project("ferries")


def keyed(settings: Settings, key: str) -> Settings:
    return settings.model_copy(update={"hash_key": SecretStr(key)})


def another(settings: Settings) -> Settings:
    return keyed(settings, f"{settings.hash_key.get_secret_value()} but another one")


@pytest.mark.parametrize(("key", "said"), [("", "is empty"), ("secret", "has 6 bytes"), ("x" * 99, "repeats itself")])
def test_with_a_key_that_can_be_guessed_nothing_is_landed(
    project: Project, settings: Settings, key: str, said: str
) -> None:
    deliver_day(project, settings, DAY)
    with pytest.raises(ConfigError, match=f"NIGHTLY_HASH_KEY\\) {said}"):
        land(project, RUN_DATE, keyed(settings, key))
    assert made_beside_landing(settings) == []
    assert postgres.journal.read_watermark(settings, project.name) == 0


def test_another_key_than_before_is_refused_by_each_step_that_hashes(
    project: Project, settings: Settings, load_changed: Callable[..., Project]
) -> None:
    deliver_day(project, settings, DAY)
    land(project, RUN_DATE, settings)
    validate(project, RUN_DATE, settings)
    before = {path: path.read_bytes() for path in made_beside_landing(settings)}
    deliver_day(project, settings, NEXT.start)
    used, given = (HashKey.of(each.hash_key.get_secret_value()).fingerprint for each in (settings, another(settings)))
    of_prices = load_changed("drugstore", prices())  # of the same installation, and nothing of it is landed yet
    for step in (
        lambda: land(project, NEXT, another(settings)),
        lambda: extract(of_prices, Interval.of(SHOP_DAY), another(settings)),
    ):
        with pytest.raises(ConfigError) as caught:
            step()
        said = str(caught.value)
        assert (
            f"its fingerprint is {given}, and that of the key with which identifiers were hashed so far is {used}"
            in said
        )
        assert "Put the old key back: docs/runbooks/hash-key.md" in said
    assert {path: path.read_bytes() for path in made_beside_landing(settings)} == before

    land(project, NEXT, settings)
    with pytest.raises(ConfigError, match="is another one than before"):
        validate(project, NEXT, another(settings))
    assert validate(project, NEXT, settings).accepted > 0
    assert rows_of(settings, "raw_ferries__logbook")["vessel"].n_unique() == 3


def test_a_restored_journal_knows_the_key(
    project: Project, settings: Settings, tmp_path: Path, install: Install
) -> None:
    deliver_day(project, settings, DAY)
    land(project, RUN_DATE, settings)
    export(settings, project.name)
    places: dict[str, Any] = {name: getattr(settings, name) for name in ("landing", "tables", "journal")}
    with install(tmp_path / "new") as empty:
        restored = empty.model_copy(update=places)
        restore(restored, project.name)
        with pytest.raises(ConfigError, match="is another one than before"):
            land(project, RUN_DATE, another(restored))
        assert land(project, RUN_DATE, restored).new == 0


def test_the_journal_has_the_fingerprint_and_not_the_key(project: Project, settings: Settings) -> None:
    deliver_day(project, settings, DAY)
    land(project, RUN_DATE, settings)
    key = settings.hash_key.get_secret_value()
    lines = postgres.journal.read_lines(settings, project.name, 0)
    assert {line["entry"]["hash_key"] for line in lines} == {HashKey.of(key).fingerprint}
    assert key not in json.dumps(lines)


def test_a_sql_feed_enters_the_fingerprint(load_changed: Callable[..., Project], settings: Settings) -> None:
    of_prices, shop = load_changed("drugstore", prices()), PostgreSQL(settings)
    shop.put_days([SHOP_DAY])
    extract(of_prices, Interval.of(SHOP_DAY), shop.settings)
    assert postgres.journal.read_fingerprint(settings) == HashKey.of(settings.hash_key.get_secret_value()).fingerprint
