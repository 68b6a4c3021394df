"""What the asset event of a step says, and what the log of a task does not."""

import warnings
from datetime import date
from types import SimpleNamespace

from dags import common
from dags.events import MAX_DAYS, extra_of
from include.config.loading import load_model
from include.core.interval import Interval
from include.core.records import FailedDay, Published, PublishedDay, Ranged, Recorded

DAY = date(2024, 3, 3)
ON = Interval.of(DAY)


def test_an_event_has_the_run_date_the_rows_the_version_and_the_batch() -> None:
    day = PublishedDay(day=DAY, batch_id="b1", state="published", rows=60)
    done = Published(interval=ON, rows=60, model="m", days=(day,), model_version=3)
    assert extra_of(ON, done) == {
        "run_date": "2024-03-03", "rows": 60, "model_version": 3, "batches": {"2024-03-03": "b1"},
    }  # fmt: skip
    assert extra_of(ON, Recorded(interval=Interval.of(date(2024, 1, 1)), rows=9, days=2, table_version=7)) == {
        "run_date": "2024-03-03", "rows": 9, "table_version": 7,
    }  # fmt: skip


def test_a_long_range_has_counts_and_no_batches() -> None:
    range_ = Interval(start=date(2024, 1, 1), end=date(2024, 3, 3))
    many = tuple(PublishedDay(day=day, batch_id="b", state="published", rows=1) for day in range_.days)
    assert len(many) > MAX_DAYS
    assert extra_of(range_, Published(interval=range_, rows=63, model="m", days=many)) == {
        "first_day": "2024-01-01", "last_day": "2024-03-03", "rows": 63,
    }  # fmt: skip
    failed = FailedDay(day=DAY, step="publish", why="no rows")
    assert extra_of(range_, Ranged(interval=range_, rows=62, done=(range_,), failed=(failed,))).items() >= {
        "days": 63, "failed": 1,
    }.items()  # fmt: skip


def test_each_outlet_of_a_task_gets_the_extra() -> None:
    asset = common.predictions_asset(load_model("late_ferry"))
    events = {asset: SimpleNamespace(extra={})}
    context = {"task": SimpleNamespace(outlets=[asset]), "outlet_events": events}
    common.announce(context, ON, Recorded(interval=ON, rows=9, days=2))
    assert events[asset].extra == {"run_date": "2024-03-03", "rows": 9}


def test_a_library_that_looks_through_all_modules_does_not_fill_the_log() -> None:
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        common.quiet_logs()
        for module in ("skops.io._utils", "elsewhere"):
            warnings.warn_explicit(
                "The `airflow.x.agm` attribute is deprecated.", DeprecationWarning, module, 1, module
            )
    assert [each.filename for each in heard] == ["elsewhere"]
