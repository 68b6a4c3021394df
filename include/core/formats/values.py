"""Text as landed becomes values. What cannot be parsed becomes null, and `validate` finds it."""

import polars as pl

from include.core.formats.base import Format
from include.core.formats.patterns import of_polars


def present(text: pl.Expr, declared: Format) -> pl.Expr:
    """Return text without the words that mean: no value."""
    return text.replace([*declared.null_values], None) if declared.null_values else text


def boolean(text: pl.Expr, declared: Format) -> pl.Expr:
    """Parse the words of a boolean, exactly as they are declared."""
    return text.replace_strict(declared.boolean_words, default=None, return_dtype=pl.Boolean())


def date(text: pl.Expr, declared: Format) -> pl.Expr:
    """Parse dates in one of the declared forms, or ISO 8601."""
    forms = [of_polars(form) for form in declared.dates] or ["%Y-%m-%d"]
    return _agreed([text.str.to_date(form, strict=False) for form in forms])


def timestamp(text: pl.Expr, declared: Format) -> pl.Expr:
    """Parse timestamps in one of the declared forms, or ISO 8601, as UTC."""
    if declared.timestamps:
        return _agreed([_moment(text, form, declared.timezone) for form in declared.timestamps])
    with_offset = text.str.to_datetime("%+", time_unit="us", time_zone="UTC", strict=False)
    if declared.timezone is None:
        return with_offset
    local = [_moment(text, f"%Y-%m-%dT%H:%M{seconds}", declared.timezone) for seconds in (":%S.%f", "")]
    return pl.coalesce(with_offset, *local)


def number(text: pl.Expr, declared: Format, *, whole: bool) -> pl.Expr:
    """Return text as polars reads numbers: with a decimal point, without separators of thousands.

    Args:
        text: as landed.
        declared: the format.
        whole: whether the column has integers.
    """
    decimal, thousands = declared.separators
    if whole and declared.whole_decimals:
        text = text.str.replace(r"^([+-]?[0-9]+)\.0+$", "${1}")
    if (decimal, thousands) == (".", ""):
        return text
    grouped = rf"[0-9]{{1,3}}(?:{_escaped(thousands)}[0-9]{{3}})+|" if thousands else ""
    right = rf"^[+-]?(?:{grouped}[0-9]+|[0-9]*)(?:{_escaped(decimal)}[0-9]*)?(?:[eE][+-]?[0-9]+)?$"
    text = pl.when(text.str.contains(right)).then(text)
    if thousands:
        text = text.str.replace_all(thousands, "", literal=True)
    return text.str.replace(decimal, ".", literal=True)


def _moment(text: pl.Expr, form: str, zone: str | None) -> pl.Expr:
    if "%z" in form:
        return text.str.to_datetime(of_polars(form), time_unit="us", time_zone="UTC", strict=False)
    local = text.str.to_datetime(of_polars(form), time_unit="us", strict=False)
    in_zone = local.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
    return in_zone.dt.convert_time_zone("UTC")


def _agreed(parsed: list[pl.Expr]) -> pl.Expr:
    """Return what all forms that fit a text say; null if two of them say something else."""
    if len(parsed) == 1:
        return parsed[0]
    return pl.when(pl.min_horizontal(parsed) == pl.max_horizontal(parsed)).then(pl.coalesce(parsed))


def _escaped(separator: str) -> str:
    return f"[{separator}]"  # a separator is no bracket, caret or backslash: `Csv` allows no such character
