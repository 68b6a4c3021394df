"""The script that the product is compared with, and the scaled files that both read."""

import gzip
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from bench import bare, scaled
from bench.bare_feeds import ACTUALS, SCHEDULE, WEATHER, check
from include.config.loading import load_project
from include.core.interval import Interval
from include.operations.simulate import make_frame
from include.projects.flights.simulate import spoil

DAY = date(2013, 1, 2)
REFERENCE = Path(__file__).parents[1] / "reference" / "features.parquet"


def read(folder: Path, feed: str) -> pl.DataFrame:
    return pl.read_csv(folder / "landing" / scaled.PROJECT / feed / str(DAY) / f"{feed}.csv.gz")


def test_scaled_files_repeat_flights_under_other_numbers_and_are_alike_otherwise(tmp_path: Path) -> None:
    folder = scaled.scaled(3, Interval.of(DAY), tmp_path)
    once, schedule = make_frame(load_project("flights"), "schedule", DAY), read(folder, "schedule")
    assert schedule.height == 3 * once.height
    assert schedule.select(pl.struct(*SCHEDULE.key).n_unique()).item() == schedule.height
    assert schedule["dest"].value_counts(sort=True)["count"][0] == 3 * once["dest"].value_counts(sort=True)["count"][0]
    assert read(folder, "weather").height == 72
    rows = sum(read(folder, feed).height for feed in ("schedule", "weather"))
    assert scaled.count_rows(folder, Interval.of(DAY)) == rows  # the outcomes of the day come a day later


def test_files_are_cut_at_line_breaks_outside_quotes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = b"a,b\n" + b'1,"x\ny"\n2,z\n' * 50
    (tmp_path / "f.csv.gz").write_bytes(gzip.compress(text))
    monkeypatch.setattr(bare, "BLOCK_BYTES", 16)
    blocks = [*bare.blocks(tmp_path / "f.csv.gz")]
    assert b"".join(blocks) == text
    assert len(blocks) > 20
    assert all(block.endswith(b"\n") and block.count(b'"') % 2 == 0 for block in blocks)


def test_the_script_quarantines_what_breaks_a_rule_about_rows(tmp_path: Path) -> None:
    folder = scaled.scaled(1, Interval.of(DAY), tmp_path)
    file = folder / "landing" / scaled.PROJECT / "schedule" / str(DAY) / "schedule.csv.gz"
    (text,) = bare.read_text(SCHEDULE, {DAY: file})
    wrong = {"flight": "x1", "origin": "BOS", "dest": None, "distance_miles": "-1", "carrier": "u", "is_holiday": "no"}
    for row, (name, value) in enumerate([*wrong.items(), ("scheduled_departure", "2013-01-03T12:00:00Z")]):
        at = pl.int_range(pl.len()) == row
        text = text.with_columns(pl.when(at).then(pl.lit(value)).otherwise(name).alias(name))
    found = check(SCHEDULE, text)
    assert found.clean.height == text.height - 7
    names = ["malformed,key", "origin", "no_dest", "distance_miles", "malformed", "malformed", "another_day"]
    assert found.quarantined["rules"].to_list() == names
    assert found.quarantined["flight"][0] == "x1"
    assert found.counts["quarantined"].to_list() == [7]


def test_the_script_makes_the_features_of_the_product(tmp_path: Path) -> None:
    expected = pl.read_parquet(REFERENCE)
    day = expected["day"][0]
    days = Interval(start=day - timedelta(days=28), end=day)
    folder = scaled.scaled(1, days, tmp_path)
    landing = folder / "landing" / scaled.PROJECT
    spoiled = spoil(make_frame(load_project("flights"), "schedule", day))  # as `make run` delivers the last day
    text = spoiled.write_csv(datetime_format="%Y-%m-%dT%H:%M:%SZ").encode()
    (landing / "schedule" / str(day) / "schedule.csv.gz").write_bytes(gzip.compress(text))
    clean = {}
    for feed, of_feed in ((SCHEDULE, Interval.of(day)), (WEATHER, Interval.of(day)), (ACTUALS, days)):
        files = {each: file for each, file in bare.files_of(landing, feed).items() if each in of_feed.days}
        clean[feed.name] = bare.clean_rows(feed, files, tmp_path / "out", 1, bare.Phases())
    rates = {by: bare.late_rates(counts, by) for by, counts in bare.count_late(clean["actuals"]).items()}
    found = bare.features_of(bare.make_features(clean["schedule"], clean["weather"], rates))
    assert len(list((tmp_path / "out" / "quarantine").rglob("*.parquet"))) == 1
    assert set(found.columns) == {*expected.columns} - {"horizon"}
    assert_frame_equal(found, expected.select(found.columns).sort("entity_id"), rel_tol=1e-9)
