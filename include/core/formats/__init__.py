"""The formats of feeds: one file for each `kind`, with its settings, how it is read and how its text becomes values.

To add one: its file, one entry in `AnyFormat`, and its cases in `tests/corpus`. Everything here is pure: bytes in, a
frame of text columns out. Objects, sidecars and tables belong in `steps/land.py`.

They are in `core`, because a `Feed` is a record of `core` and its format is a part of it.
"""

from typing import Annotated

from pydantic import Field

from include.core.formats.base import Format as Format
from include.core.formats.base import Layout as Layout
from include.core.formats.csv import Csv
from include.core.formats.jsonl import Jsonl
from include.core.formats.limits import Limits as Limits
from include.core.formats.parquet import Parquet

AnyFormat = Annotated[Csv | Jsonl | Parquet, Field(discriminator="kind")]
"""Every format. `kind` says which one the files of a feed have."""
