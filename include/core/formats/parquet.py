"""Parquet: typed columns. Each value becomes the text that says exactly what it is."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from include.core.errors import UnreadableError
from include.core.formats import columns
from include.core.formats.base import Contents, Format, Layout
from include.core.formats.text import too_long
from include.core.formats.unpack import too_large

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa
    import pyarrow.parquet as pq

BATCH_ROWS = 1 << 14
MAX_EXACT = 2**53
"""From here on, one float64 stands for several whole numbers."""

YEARS_IN_SECONDS = (-62135596800, 253402300799)
"""The years 1 to 9999, in seconds since 1970. Later moments, such as the infinity of PostgreSQL, have no text."""
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
OUT_OF_RANGE = "out of range"
"""The text of a timestamp of another year; `validate` finds it."""


class Parquet(Format):
    """Parquet. Timestamps without a zone need `timezone`; nested and binary columns are refused."""

    kind: Literal["parquet"] = "parquet"
    whole_decimals: ClassVar[bool] = True
    can_crash: ClassVar[bool] = True
    unit: ClassVar[str] = "row"

    def parse(self, blocks: Iterator[bytes], layout: Layout) -> Contents:
        """Read the blocks of an unpacked file; see `Format.read`."""
        import polars as pl
        import pyarrow as pa

        content = b"".join(blocks)
        try:
            found, kept = self._kept(content, layout)
            frames = [*_blocks(content, kept, layout)]
        except MemoryError:  # of Arrow too
            raise too_large(layout.limits) from None
        except (pa.ArrowException, OSError, OverflowError) as error:
            problem = type(error).__name__
        else:
            rows = pl.concat(frames).with_columns(_row=pl.int_range(1, pl.len() + 1, dtype=pl.Int64()))
            types = {name: _type_name(dtype) for name, dtype in kept.items()}
            return Contents(rows, columns.remark(found, layout, shown=True), columns.differs(found, layout), types)
        if content.startswith(b"PAR1"):
            raise UnreadableError(f"damaged Parquet, or cut off ({problem}); deliver the file again")
        kind = "jsonl" if content.lstrip()[:1] == b"{" else "csv"
        raise UnreadableError(
            "not Parquet: it does not begin with PAR1; deliver the file again, or, if it is text, declare "
            f"format: {{kind: {kind}}}"
        )

    def _kept(self, content: bytes, layout: Layout) -> tuple[list[str], dict[str, "pa.DataType"]]:
        """Return the names of all columns, and the types of those that are declared and there."""
        import pyarrow as pa

        file = _open(content)
        if file.metadata.num_columns > layout.max_columns:
            raise columns.too_many(layout, None)
        schema = file.schema_arrow
        places = zip(layout.names, columns.places(schema.names, layout, shown=True), strict=True)
        kept = {name: schema.field(place).type for name, place in places if place is not None}
        for name, dtype in kept.items():
            if reason := why_refused(dtype):
                raise UnreadableError(f"{name} is {reason}; deliver text, numbers, booleans, dates or timestamps")
            if pa.types.is_timestamp(dtype) and dtype.tz is None and self.timezone is None:
                raise UnreadableError(
                    f"{name} has timestamps without a zone; deliver them in UTC, or declare the zone that they are in, "
                    f"such as {self.line(timezone='UTC')}"
                )
        return schema.names, kept


def _open(content: bytes, dictionaries: list[str] | None = None) -> "pq.ParquetFile":
    import pyarrow as pa
    import pyarrow.parquet as pq

    return pq.ParquetFile(pa.BufferReader(content), read_dictionary=dictionaries, pre_buffer=False)


def _type_name(dtype: "pa.DataType") -> str:
    """Return the name of a type, whatever way a writer chose to store it."""
    import pyarrow as pa

    value = dtype.value_type if pa.types.is_dictionary(dtype) else dtype
    return str(value).removeprefix("large_").removesuffix("_view")


def why_refused(dtype: "pa.DataType") -> str | None:
    """Return what a type is that no column can have; None for any other."""
    import pyarrow as pa

    if pa.types.is_nested(dtype):
        return f"nested: {dtype}"
    binary = pa.types.is_binary(dtype) or pa.types.is_large_binary(dtype) or pa.types.is_fixed_size_binary(dtype)
    if binary or pa.types.is_time(dtype) or pa.types.is_duration(dtype):
        return f"of type {dtype}"
    return None


def _blocks(content: bytes, kept: Mapping[str, "pa.DataType"], layout: Layout) -> Iterator["pl.DataFrame"]:
    """Yield the declared columns as text, first without rows.

    Text is read as dictionaries, so that a long value that is repeated a million times is refused before it is copied.
    """
    import polars as pl

    text = [name for name, dtype in kept.items() if _is_text(dtype)]
    file, most, size = _open(content, text), layout.limits.max_bytes, 0
    rows = layout.limits.max_rows(len(layout.names))
    if (
        file.metadata.num_rows > rows or sum(_unpacked_bytes(file, kept)) > most
    ):  # the file's own claim; what it does not say is found below
        raise too_large(layout.limits)
    yield pl.DataFrame(schema=dict.fromkeys(layout.names, pl.String()))
    first_row = 1
    for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=[*kept]):
        for name in text:
            size += _characters(batch[name], name, layout, first_row)
        if size > most:
            raise too_large(layout.limits)
        block = pl.DataFrame({name: as_text(batch[name]) for name in kept})
        size += (
            sum(int(block[name].str.len_bytes().sum()) for name in kept if name not in text)
            + block.height * block.width
        )
        first_row += block.height
        if first_row - 1 > rows:
            raise too_large(layout.limits)
        yield block.select(pl.col(n) if n in kept else pl.lit(None, pl.String()).alias(n) for n in layout.names)


def _unpacked_bytes(file: "pq.ParquetFile", kept: Mapping[str, "pa.DataType"]) -> Iterator[int]:
    """Yield the size of each part of the columns that are read, as the file says it."""
    about = file.metadata
    for group in (about.row_group(n) for n in range(about.num_row_groups)):
        for column in (group.column(n) for n in range(group.num_columns)):
            if column.path_in_schema in kept:
                yield int(column.total_uncompressed_size)


def _is_text(dtype: "pa.DataType") -> bool:
    import pyarrow as pa

    value = dtype.value_type if pa.types.is_dictionary(dtype) else dtype
    return bool(pa.types.is_string(value) or pa.types.is_large_string(value) or pa.types.is_string_view(value))


def _characters(column: "pa.Array", name: str, layout: Layout, first_row: int) -> int:
    """Return how long all values are together. Of a dictionary only the values are looked at that these rows have.

    Raises:
        UnreadableError: a value is longer than the limit.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    is_dictionary = pa.types.is_dictionary(column.type)
    if is_dictionary:
        used = pc.drop_null(pc.unique(column.indices))
        places = pc.index_in(column.indices, value_set=used)
        lengths = pc.utf8_length(column.dictionary.take(used)).take(places)
    else:
        lengths = pc.utf8_length(column)
    longest = pc.max(lengths).as_py() or 0
    if longest > layout.limits.field_characters:
        raise too_long(layout.limits.field_characters, first_row + pc.index(lengths, longest).as_py(), unit="row")
    return int(pc.sum(lengths).as_py() or 0)


def as_text(column: "pa.Array") -> "pl.Series":
    """Return the text that says exactly what each value is; timestamps with a zone are in UTC."""
    import polars as pl
    import pyarrow as pa
    import pyarrow.compute as pc

    dtype: Any = column.type
    if pa.types.is_dictionary(dtype):
        column = column.dictionary_decode()
        dtype = column.type
    if pa.types.is_timestamp(dtype):
        zone = "Z" if dtype.tz else ""
        moments = pl.Series("moment", pl.from_arrow(_without_zone(column)))
        first, last = (limit * _PER_SECOND[dtype.unit] for limit in YEARS_IN_SECONDS)
        sane = pl.when(pl.col("moment").to_physical().is_between(first, last)).then(pl.col("moment"))
        written = sane.dt.strftime(f"%Y-%m-%dT%H:%M:%S%.f{zone}")
        return (
            pl
            .select(moments)
            .select(pl.when(pl.col("moment").is_not_null()).then(pl.coalesce(written, pl.lit(OUT_OF_RANGE))))
            .to_series()
        )
    if pa.types.is_floating(dtype):
        exact = column.cast(pa.float64())
        text = pl.Series(pl.from_arrow(exact)).cast(pl.String())
        large = pc.greater_equal(pc.abs(exact), float(MAX_EXACT))
        # in scientific notation these are no integers: the number that was meant may have been another
        scientific = pl.Series(pl.from_arrow(pc.if_else(large, exact, None).cast(pa.string())))
        return pl.select(pl.coalesce(scientific, text)).to_series()
    return pl.Series(pl.from_arrow(column.cast(pa.large_string()))).cast(pl.String())


def _without_zone(column: "pa.Array") -> "pa.Array":
    """Return timestamps without their zone, those with one in UTC: a zone of another system may be unknown here."""
    import pyarrow as pa

    return column.cast(pa.int64()).cast(pa.timestamp(column.type.unit))
