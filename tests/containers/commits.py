"""Check inside a container that of two writers that overwrite a day at once exactly one commits."""

import sys
import threading
from contextlib import suppress
from datetime import date

import polars as pl
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError

from dags.connections import resolve
from include.io.storage import delta_options

ROUNDS = 20

settings = resolve("tests", "unknown")
uri = f"{settings.tables}/two_writers"
options = delta_options(settings, uri)
frame = pl.DataFrame({"day": [date(2013, 1, 1)], "n": [0]})
write_deltalake(uri, frame.to_arrow(), mode="overwrite", storage_options=options)


def overwrite(start: threading.Barrier, table: DeltaTable, value: int, won: list[int]) -> None:
    """Replace the day by the value, at the same time as other writers."""
    start.wait()
    with suppress(CommitFailedError):
        made = frame.with_columns(n=pl.lit(value)).to_arrow()
        write_deltalake(table, made, mode="overwrite", predicate="day = '2013-01-01'")
        won.append(value)


for _ in range(ROUNDS):
    start, won = threading.Barrier(2), []
    tables = [DeltaTable(uri, storage_options=options) for _ in range(2)]
    threads = [threading.Thread(target=overwrite, args=(start, *pair[::-1], won)) for pair in enumerate(tables)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1, won
    assert pl.scan_delta(uri, storage_options=options).collect().height == 1
sys.stdout.write(f"{ROUNDS} rounds, 1 winner each\n")
