"""Put files of the project `drugstore` into landing, with the time that each is to have."""

import io
import json
import os
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import polars as pl

from include.core.settings import Settings


def moment(day: date, hour: int) -> datetime:
    return datetime.combine(day, time(hour), ZoneInfo("Europe/Berlin")).astimezone(UTC)


def put(settings: Settings, key: str, content: bytes, at: datetime) -> None:
    path = Path(settings.landing) / "drugstore" / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (at.timestamp(), at.timestamp()))


def put_stores(
    settings: Settings,
    regions: Sequence[str],
    at: datetime,
    ids: Sequence[int] = (1, 2),
    name: str = "stores/stores.parquet",
) -> None:
    rows = {"store_id": [*ids], "region": regions, "area": [10.5] * len(regions)}
    content = io.BytesIO()
    pl.DataFrame(rows).write_parquet(content)
    put(settings, name, content.getvalue(), at)


def put_plan(settings: Settings, *of_days: date) -> None:
    """Two items of two stores a day, delivered the evening before."""
    for day in of_days:
        rows = [{"item_id": f"i{n}", "store_id": n, "delivery_date": str(day), "planned": 7} for n in (1, 2)]
        text = "\n".join(map(json.dumps, rows)) + "\n"
        put(settings, f"plan/{day}/plan.jsonl", text.encode(), moment(day - timedelta(days=1), 20))


def put_sales(settings: Settings, day: date, pieces: str, at: datetime | None = None) -> None:
    """One item's sales of a day; by default they come a week later, before the cutoff."""
    text = f"item_id;sale_date;cashier;pieces\ni1;{day};Erika Mustermann;{pieces}\n"
    put(settings, f"sales/{day}/sales.csv", text.encode(), at or moment(day + timedelta(days=7), 1))
