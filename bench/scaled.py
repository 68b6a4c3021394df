"""Write the flights at many times their size: a project of its own and its files, for benchmarks.

Each flight is there as many times, with flight numbers, registrations and addresses of its own: keys stay unique, and
all other columns have the same distribution as in the real data. The hourly weather is the same. Files are written in
blocks, always with the same bytes, once into a folder outside the repository.
"""

import gzip
import hashlib
import shutil
import tempfile
from datetime import date
from pathlib import Path

import polars as pl
import yaml

from include.config.loading import load_project
from include.core.interval import Interval
from include.io.landing import Sidecar
from include.operations.simulate import make_frame, usual_available_at

OF = "flights"
PROJECT, MODEL = "flights_scaled", "late_arrival_scaled"
SCALED_FEEDS = ("schedule", "actuals")
NUMBERS = 10_000  # more than any flight number of 2013
COPIES = 100  # written at a time
CACHE = Path(tempfile.gettempdir()) / "nightly-bench-scaled"


def scaled(times: int, interval: Interval, cache: Path = CACHE) -> Path:
    """Return a folder with `projects`, and with the `landing` of all run dates up to the interval's end.

    Files of the interval's days have as many times the rows, those of days before it the usual ones. What is there
    already is not written again.
    """
    folder = cache / f"{times}x{len(interval.days)}"
    _write_project(folder / "projects" / PROJECT, times)
    project = load_project(OF)
    run_dates = Interval(start=project.first_day, end=interval.end)
    for feed, day in dict.fromkeys(slot for run_date in run_dates.days for slot in project.delivered_days(run_date)):
        is_larger = feed in SCALED_FEEDS and day >= interval.start
        _write_file(folder / "landing" / PROJECT, feed, day, times if is_larger else 1)
    return folder


def count_rows(folder: Path, interval: Interval) -> int:
    """Return the rows that the files of the interval's days have."""
    found = (Sidecar.model_validate_json(file.read_bytes()) for file in folder.glob(f"landing/{PROJECT}/*/*/*.json"))
    return sum(each.rows or 0 for each in found if each.day and interval.start <= each.day <= interval.end)


def _write_project(folder: Path, times: int) -> None:
    """Copy the project with a model. Files may have as many times the rows, also after usual ones."""
    original = load_project(OF).folder
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(original / "models" / "late_arrival", folder / "models" / MODEL)
    for name in ("project.yaml", "features.py"):
        shutil.copy(original / name, folder / name)
    rules = yaml.safe_load((original / "expectations.yaml").read_text(encoding="utf-8"))
    for rule in (rule for feed in SCALED_FEEDS for rule in rules[feed]):
        for limit in ("max_value", "max_ratio") if "row_count" in rule["expect"] else ():
            if limit in rule:
                rule[limit] *= times
    (folder / "expectations.yaml").write_text(yaml.safe_dump(rules), encoding="utf-8")


def _write_file(landing: Path, feed: str, day: date, times: int) -> None:
    """Write a file with its sidecar, unless it is there."""
    project = load_project(OF)
    file = landing / feed / str(day) / f"{feed}.csv.gz"
    if file.exists():
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_suffix(".new")
    frame = make_frame(project, feed, day)
    with draft.open("wb") as stream, gzip.GzipFile("", "wb", compresslevel=6, fileobj=stream, mtime=0) as packed:
        for first in range(0, times, COPIES):
            copies = pl.DataFrame({"_copy": range(first, min(first + COPIES, times))}, schema={"_copy": pl.Int64})
            rows = _renumbered(copies.join(frame, how="cross")).select(frame.columns)
            text = rows.write_csv(include_header=first == 0, datetime_format="%Y-%m-%dT%H:%M:%SZ")
            packed.write(text.encode())
    sidecar = Sidecar(
        feed=feed,
        day=day,
        size=draft.stat().st_size,
        sha256=hashlib.sha256(draft.read_bytes()).hexdigest(),
        rows=frame.height * times,
        available_at=usual_available_at(project, feed, day),
    )
    file.with_name(f"{file.name}.json").write_text(sidecar.model_dump_json(), encoding="utf-8")
    draft.rename(file)


def _renumbered(rows: pl.DataFrame) -> pl.DataFrame:
    """Give the flights of each copy numbers, registrations and addresses of their own; copy 0 stays as it is."""
    copy = pl.col("_copy")
    letters = {n: chr(ord("A") + (ord("N") - ord("A") + n) % 26) for n in range(26)}
    number = pl.when(copy > 0).then(pl.format("{}.", copy)).otherwise(pl.lit(""))
    own = {
        "flight": pl.col("flight") + NUMBERS * copy,
        "tailnum": (copy % 26).replace_strict(letters, return_dtype=pl.String) + pl.col("tailnum").str.slice(1),
        "contact_email": number + pl.col("contact_email"),
    }
    return rows.with_columns(**{name: value for name, value in own.items() if name in rows.columns})
