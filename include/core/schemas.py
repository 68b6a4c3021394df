"""The columns and dtypes of each layer's tables, derived from the project's declaration. Pure."""

from datetime import date

import polars as pl

from include.core import storable
from include.core.feeds import HORIZON, Column, Feed
from include.core.formats import Format, values
from include.core.project import Project

POLARS: dict[str, pl.DataType] = {
    "string": pl.String(),
    "integer": pl.Int64(),
    "double": pl.Float64(),
    "boolean": pl.Boolean(),
    "timestamp": pl.Datetime("us", "UTC"),
    "date": pl.Date(),
}

DELIVERIES: dict[str, pl.DataType] = {
    "sequence": pl.Int64(),
    "day": pl.Date(),
    "feed": pl.String(),
    "delivery_id": pl.String(),  # object key below landing/<project>/ and the first characters of its sha256
    "key": pl.String(),
    "uri": pl.String(),
    "sha256": pl.String(),
    "size": pl.Int64(),
    "rows": pl.Int64(),
    "available_from": pl.Datetime("us", "UTC"),
    "correction": pl.String(),  # what it is to the deliveries of its day before it (`stack.Correction`)
    "verdict": pl.String(),  # landed, held (waits for a person), accepted, refused (by expectations), withdrawn
    "why": pl.String(),
}
"""The deliveries as the journal has them at a watermark, one row each, with the newest verdict or decision on each."""

PREDICTION_COLUMNS: dict[str, pl.DataType] = {
    "score": pl.Float64(),
    "prediction": pl.Float64(),
    "lower": pl.Float64(),
    "upper": pl.Float64(),
    "label": pl.String(),
    "probabilities": pl.String(),  # JSON, label -> probability
}
"""The columns that a model adds. Each has score and prediction; the problem type decides on the others."""

REASONS = "reasons"
"""The column of predictions with the strongest reasons as JSON: see `include/training/reasons.py`."""

STORED_PREDICTION: dict[str, pl.DataType] = {**PREDICTION_COLUMNS, REASONS: pl.String()}
"""The columns of a row of a batch, and of scores."""

OF_JSON = ("probabilities", REASONS)
"""The columns that are JSON."""

EVERY_PREDICTION = ("score", "prediction")
"""The columns of predictions that are never null."""

SCORES: dict[str, pl.DataType] = {
    "day": pl.Date(),
    HORIZON: pl.Int32(),
    "entity_id": pl.String(),
    "model_version": pl.Int64(),
    **STORED_PREDICTION,
    "as_of": pl.Datetime("us", "UTC"),
    "features_version": pl.Int64(),
}


def with_prediction_columns(scores: pl.LazyFrame) -> pl.LazyFrame:
    """Add the columns of predictions that the scores do not have, as null."""
    there = scores.collect_schema().names()
    absent = {name: kind for name, kind in STORED_PREDICTION.items() if name not in there}
    return scores.with_columns(pl.lit(None, kind).alias(name) for name, kind in absent.items())


def raw(feed: Feed) -> dict[str, pl.DataType]:
    """Return the columns of a raw table.

    All columns are text as landed, with identifiers hashed. `_malformed` names the identifiers with a wrong format.
    """
    landed = {name: pl.String() for name in feed.kept}
    return {"day": pl.Date(), "delivery_id": pl.String(), "_row": pl.Int64(), "_malformed": pl.String(), **landed}


def clean(project: Project, feed: Feed) -> dict[str, pl.DataType]:
    """Return the columns of a clean table: typed, with `entity_id` if the feed has the whole key of the entity."""
    entity = {"entity_id": pl.String()} if has_entity(project, feed) else {}
    typed = {name: dtype(column) for name, column in feed.kept.items()}
    return {"day": pl.Date(), "delivery_id": pl.String(), "_row": pl.Int64(), **entity, **typed}


def quarantine(feed: Feed) -> dict[str, pl.DataType]:
    """Return the columns of a quarantine table.

    They are those of raw. `_malformed` names all columns whose value does not have the declared type, and `rule` names
    the expectation that the row broke.
    """
    return {**raw(feed), "rule": pl.String(), "run_id": pl.String()}


def dtype(column: Column) -> pl.DataType:
    """Return the polars dtype of a declared type."""
    return POLARS[column.type]


def has_entity(project: Project, feed: Feed) -> bool:
    """Return whether rows of the feed are about entities."""
    return set(project.entity.key) <= feed.kept.keys()


def entity_id(project: Project) -> pl.Expr:
    """Return the entity's key as one readable string, such as `store-7-20260101T0830Z`.

    Different keys have different strings (`storable.key_part` says why); null if a column of the key is null.
    """
    columns, key = project.feeds[project.entity.feed].columns, project.entity.key
    parts = [storable.key_part(pl.col(name), columns[name].type, last=n == len(key)) for n, name in enumerate(key, 1)]
    return pl.concat_str(parts, separator="-").alias("entity_id")


def typed(text: pl.Expr, column: Column, declared: Format, timezone: str) -> pl.Expr:
    """Parse text as landed into the declared type; null for what is of another form, or cannot be stored later."""
    return storable.only_storable(formed(text, column, declared), column.type, timezone)


def typed_rows(project: Project, feed: Feed, raw: pl.DataFrame) -> pl.DataFrame:
    """Parse raw rows into the columns of `clean`.

    `_malformed` names the columns whose text cannot be parsed or stored, `entity_id` where it is too long, and the day
    column of a row of another date than its file.
    """
    kept = feed.kept.items()
    found = raw.with_columns(typed(pl.col(name), column, feed.format, project.timezone) for name, column in kept)
    written = raw.select(values.present(pl.col(name), feed.format) for name in feed.kept)
    unread = [
        pl.when(written[name].is_not_null() & found[name].is_null()).then(pl.lit(name)).otherwise(None)
        for name in feed.kept
    ]
    late = is_of_another_date(feed, project.timezone)
    unread.append(pl.when(late).then(pl.lit(feed.day_column)))
    if has_entity(project, feed):
        found = found.with_columns(entity_id(project))
        unread.append(pl.when(pl.col("entity_id").str.len_bytes() > storable.MAX_KEY_BYTES).then(pl.lit("entity_id")))
    malformed = pl.concat_str([pl.col("_malformed"), *unread], separator=",", ignore_nulls=True)
    return found.with_columns(malformed.replace("", None).alias("_malformed"))


def formed(text: pl.Expr, column: Column, declared: Format) -> pl.Expr:
    """Parse text as landed into the declared type; null for what is not of that type, or of another `format`."""
    value = parse(text, column.type, declared)
    if column.data_class != "public" or column.format is None:  # an identifier is a hash by now
        return value

    def of_format(texts: pl.Series) -> pl.Series:
        wrong = column.without_form(texts.drop_nulls().unique())
        right = pl.when(~pl.first().is_in(wrong)).then(pl.first())
        return texts.to_frame().select(right).to_series() if wrong else texts

    return value.map_batches(of_format, return_dtype=pl.String())


def is_of_another_date(feed: Feed, timezone: str) -> pl.Expr:
    """Return whether a typed row is of another local date than `day`, the day of its file; null if it has no date.

    A row of a snapshot is of no date.
    """
    if feed.day_column is None:
        return pl.lit(False)
    return local_date(feed, pl.col(feed.day_column), timezone) != pl.col("day")


def too_many_of_another_date(records: pl.DataFrame, feed: Feed, day: date, timezone: str) -> pl.DataFrame:
    """Return the rows of another local date than `day`, if their share is greater than declared; otherwise none.

    Args:
        records: all declared columns as text, and `_row`.
        feed: the declaration.
        day: the day of the file, or of the query.
        timezone: of the project.

    Returns:
        A frame with `_row` and the typed day column. Rows whose date cannot be parsed or stored are not counted.
    """
    if feed.day_column is None:
        return records.clear()
    value = typed(pl.col(feed.day_column), feed.columns[feed.day_column], feed.format, timezone)
    texts = records.select(pl.col(feed.day_column).unique())  # many rows have one text; it is parsed once
    of_another = texts.filter(local_date(feed, value, timezone) != day).to_series()
    if of_another.is_empty():
        return records.clear()
    dated = records.filter(pl.col(feed.day_column).is_in(of_another.implode())).select("_row", value, day=pl.lit(day))
    wrong = dated.filter(is_of_another_date(feed, timezone)).drop("day")
    at_most = 0 if feed.late_rows is None else feed.late_rows.at_most
    return wrong if wrong.height / max(records.height, 1) > at_most else wrong.clear()


def local_date(feed: Feed, value: pl.Expr, timezone: str) -> pl.Expr:
    """Return the local date of a typed value of the day column."""
    is_moment = feed.day_column is not None and feed.columns[feed.day_column].type == "timestamp"
    return value.dt.convert_time_zone(timezone).dt.date() if is_moment else value


def parse(text: pl.Expr, kind: str, declared: Format) -> pl.Expr:
    """Parse text as landed into a type, as the format of its feed says.

    Values that cannot be parsed become null. So do NaN and infinity, because they break sums and compare as large.
    """
    text = values.present(text, declared)
    if kind == "timestamp":
        return values.timestamp(text, declared)
    if kind == "boolean":
        return values.boolean(text, declared)
    if kind == "date":
        return values.date(text, declared)
    if kind in ("integer", "double"):
        text = values.number(text, declared, whole=kind == "integer")
    value = text.cast(POLARS[kind], strict=False)
    return pl.when(value.is_finite()).then(value) if kind == "double" else value
