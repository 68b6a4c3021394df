"""Any record is lines that fit 80 and 200 columns, with what it says; JSON has the rest."""

from dataclasses import dataclass
from datetime import UTC, date, datetime

import pytest

from include.core.base import Record
from include.core.interval import Interval
from include.core.record_lines import MOST, record_lines
from include.core.records import (
    Alert,
    Evaluated,
    Monitored,
    PeriodReported,
    PeriodsReported,
    Published,
    PublishedDay,
    Rehashed,
    Scored,
    ScoredDay,
    TableRef,
)

RUN = Interval(start=date(2026, 3, 1), end=date(2026, 3, 4))
COMMAND = "python -m include.cli build_features --project ferries --start 2026-03-01 --end 2026-03-31 --data latest"
SENTENCE = "late_ferry: roc_auc was below 0.55 on 3 of the last 7 days with outcomes, which has not been so before"
RECORDS: list[Record] = [
    Scored(
        interval=RUN,
        rows=388_048,
        model="late_ferry",
        table=TableRef(table="scores_late_ferry", version=1012, interval=RUN, rows=388_048),
        days=tuple(ScoredDay(day=day, model_version=3, rows=97_012) for day in RUN.days),
        unscored=(date(2026, 3, 9), date(2026, 3, 10)),
    ),
    Published(
        interval=RUN,
        rows=4,
        model="late_ferry",
        days=tuple(
            PublishedDay(day=day, batch_id="9f6d3a52-1b0e-5d7c-8f43-6a1c2b7e9d10", state="published", rows=9)
            for day in RUN.days
        ),
    ),
    Monitored(
        interval=RUN,
        rows=812,
        days=4,
        alerts=(
            Alert(subject="late_ferry", rule="roc_auc", day=RUN.start, sentence=SENTENCE, command=COMMAND),
            Alert(subject="ferries", rule="late", day=RUN.end, sentence=SENTENCE),
        ),
    ),
    Evaluated(
        interval=RUN,
        rows=9,
        model="late_ferry",
        candidate="linear",
        run_id="abc",
        validation=RUN,
        validation_metrics={"log_loss": 0.123456, "rows": 9.0},
        metrics={},
    ),
    Rehashed(
        before="aa",
        after="bb",
        hashed=("raw_a", "raw_b"),
        removed=(),
        batches=4,
        commands=(COMMAND,),
        by="Ada",
        why="a leak",
    ),
    PeriodsReported(
        interval=RUN,
        rows=1,
        reports=(PeriodReported(period="2026-W09", page="s3://a/b.html", pdf=None, summary=(SENTENCE, "all is well")),),
    ),
]


@pytest.mark.parametrize("width", [80, 200])
@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_record_fits_and_loses_no_word(record: Record, width: int) -> None:
    lines = record_lines(record, width)
    assert [line for line in lines if len(line) > width and line.strip() != COMMAND] == []
    words = " ".join(lines).split()
    for sentence in (SENTENCE, COMMAND, "2026-03-01", "published"):
        if sentence in record.model_dump_json():
            assert all(word in words or f"{word}," in words for word in sentence.split()), sentence


def test_numbers_days_and_moments_are_written_for_people() -> None:
    @dataclass(frozen=True)
    class Found:
        rows: int
        model_version: int
        share: float
        is_late: bool
        as_of: datetime
        days: tuple[date, ...]
        nothing: str | None = None

    found = Found(12_345, 12_345, 0.123456, True, datetime(2026, 3, 1, 5, 30, 59, tzinfo=UTC), tuple(RUN.days))
    assert record_lines(found, 80) == [
        "rows           12,345",
        "model version  12345",
        "share          0.1235",
        "is late        yes",
        "as of          2026-03-01 05:30 UTC",
        "days           2026-03-01 to 2026-03-04",
    ]


def test_a_command_is_a_line_of_its_own_that_can_be_copied() -> None:
    lines = record_lines({"why": "corrected", "commands": (COMMAND, "make start")}, 80)
    assert lines == ["why       corrected", "commands", f"  {COMMAND}", "  make start"]


def test_of_many_values_the_first_are_shown_and_all_are_counted() -> None:
    many = tuple(f"raw_{n}" for n in range(1000, 2500))
    lines = record_lines(
        {"tables": many, "days": tuple(ScoredDay(day=RUN.start, model_version=1, rows=n) for n in range(50))}, 80
    )
    assert sum("raw_" in line for line in lines) == MOST
    assert "        … and 1,490 more" in lines
    assert lines[-1] == "  … and 40 more"


def test_a_table_that_does_not_fit_is_rows_one_below_the_other() -> None:
    found = record_lines(RECORDS[2], 80)
    assert "  ── 1" in found and "  ── 2" in found
    assert "  subject   late_ferry" in found
    head = next(line for line in record_lines(RECORDS[1], 80) if "batch id" in line)
    assert head.split() == ["day", "batch", "id", "state", "rows", "differing"]
