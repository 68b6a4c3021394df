"""What the columns of example files are: types, how values are written, and which ones may be personal data."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import groupby
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl

from include.core import schemas
from include.core.formats import Format
from include.core.formats.csv import Csv
from include.core.formats.explain import BOOLEAN_WORDS, DATES, NULL_WORDS, NUMBERS, moments

MAX_TEXTS = 5000
"""The most different texts of a column that are tried."""
FEW = 20
"""A label with at most so many different values has a set of values."""

NUMBER = re.compile(r"[+-]?(?:0|[1-9]\d{0,2}(?:[.,'\s]?\d{3})*|[1-9]\d*)?(?:[.,]\d+)?(?:[eE][+-]?\d+)?")
"""What can be a number. Digits after a leading zero are a code, such as 0123."""

SENSITIVE = frozenset([
    "email",
    "e_mail",
    "mail",
    "phone",
    "telephone",
    "telefon",
    "tel",
    "mobile",
    "handy",
    "fax",
    "firstname",
    "first_name",
    "vorname",
    "lastname",
    "last_name",
    "surname",
    "nachname",
    "fullname",
    "full_name",
    "middle_name",
    "maiden_name",
    "address",
    "adresse",
    "street",
    "strasse",
    "straße",
    "iban",
    "bic",
    "ssn",
    "birth",
    "birthday",
    "birthdate",
    "dob",
    "geburtsdatum",
    "passport",
    "card_number",
    "credit_card",
    "ip",
    "ip_address",
    "password",
    "token",
    "nom",
    "prenom",
    "adresse_mail",
    "telephone_number",
    "contact",
])
PERSONS = frozenset([
    "customer",
    "client",
    "user",
    "member",
    "patient",
    "passenger",
    "employee",
    "cashier",
    "person",
    "household",
    "account",
    "driver",
    "subscriber",
    "student",
    "guest",
    "seller",
    "buyer",
    "owner",
    "kunde",
    "kunden",
    "kundin",
    "mitarbeiter",
    "benutzer",
    "person_id",
    "personal",
    "utilisateur",
    "salarie",
])
"""Words of persons. A column that is named by one is an identifier, or with `name` a sensitive value."""

ABOUT_GROUPS = {"type", "class", "count", "age", "group", "segment", "status", "share"}
"""Words after which a column says something about persons that does not name them, such as `customer_type`."""

CONTENT: dict[str, Callable[[str], bool]] = {
    "e-mail addresses": lambda text: re.fullmatch(r"[^@\s]+@[^@\s]+\.[a-zA-Z]{2,}", text) is not None,
    "phone numbers": lambda text: (
        re.fullmatch(r"(\+|00)[1-9][\d ()/.-]{6,20}|\(?0\d{1,4}\)?[ /-][\d -]{4,15}", text) is not None
    ),
    "IBANs": lambda text: _is_iban(text.replace(" ", "")),
    "card numbers": lambda text: re.fullmatch(r"\d{4}[ -]?\d{4}[ -]?\d{4}[ -]?\d{3,4}", text) is not None,
    "IP addresses": lambda text: re.fullmatch(r"(\d{1,3}\.){3}\d{1,3}", text) is not None,
}


@dataclass(frozen=True)
class FoundColumn:
    """What the examples say about a column.

    Attributes:
        name: its name.
        type: a type of `project.yaml`.
        data_class: public, identifier or sensitive.
        format: the form of its text, None if there is none.
        optional: whether a file lacks it.
        values: the typed values of the sample (text, if it is an identifier or sensitive).
        check: what a person should look at.
    """

    name: str
    type: str
    data_class: str
    format: str | None
    optional: bool
    values: pl.Series
    check: str = ""

    @property
    def is_number(self) -> bool:
        """Whether values are public numbers or booleans."""
        return self.data_class == "public" and self.type in ("integer", "double", "boolean")

    @property
    def is_label(self) -> bool:
        """Whether values are public text."""
        return self.data_class == "public" and self.type == "string"

    @property
    def distinct(self) -> int:
        """The number of different values."""
        return self.values.drop_nulls().n_unique()


@dataclass
class Written:
    """How the values of a feed are written, found column by column."""

    format: Format
    zone: str
    changes: dict[str, Any] = field(default_factory=dict)
    checks: list[str] = field(default_factory=list)

    @property
    def declared(self) -> Format:
        """Return the format with what was found so far."""
        return type(self.format).model_validate({**self.format.model_dump(), **self.changes})

    def parsed(self, texts: pl.Series, kind: str, **changes: Any) -> pl.Series | None:
        """Return what texts mean with further settings, None if not all of them are right."""
        has = type(self.format).model_fields
        changes = {key: value for key, value in changes.items() if key in has or value is not None}
        try:
            declared = type(self.format).model_validate({**self.declared.model_dump(), **changes})
        except ValueError:
            return None
        values = texts.to_frame("text").select(schemas.parse(pl.col("text"), kind, declared)).to_series()
        return None if values.null_count() else values

    def add(self, key: str, form: str) -> None:
        """Add a form of dates or timestamps."""
        known = self.changes.get(key, ())
        self.changes[key] = known if form in known else (*known, form)


def find_columns(
    rows: pl.DataFrame, names: Sequence[str], optional: Iterable[str], declared: Format, zone: str
) -> tuple[list[FoundColumn], Format, list[str]]:
    """Return the columns of a feed, how its values are written, and what a person should check.

    Args:
        rows: texts, with `_day`: the day of the file.
        names: the columns.
        optional: those that a file may lack.
        declared: the kind of the files.
        zone: the timezone of local times.
    """
    written = Written(declared, zone)
    texts = {name: rows[name].drop_nulls().unique(maintain_order=True)[:MAX_TEXTS] for name in names}
    written.changes["null_values"] = _null_words(texts)
    texts = {name: each.filter(~each.is_in(list(written.changes["null_values"]))) for name, each in texts.items()}
    _find_numbers(written, texts)
    kinds = {name: _kind(written, each, rows.select(text=name, day="_day")) for name, each in texts.items()}
    found = [_column(name, kinds[name], texts[name], rows[name], written, name in optional) for name in names]
    for key in ("timestamp", "date"):
        forms = written.changes.get(key)
        if forms and len(forms) == 1:
            written.changes[key] = forms[0]
    return found, written.declared, written.checks


def _null_words(texts: dict[str, pl.Series]) -> tuple[str, ...]:
    """Return the words for a missing value that are found among numbers, dates or in several columns."""
    found: dict[str, int] = {}
    for each in texts.values():
        words = [text for text in each if text in NULL_WORDS]
        others = [text for text in each if text not in NULL_WORDS]
        numbers = others and all(re.search(r"\d", text) for text in others)
        for word in words:
            found[word] = found.get(word, 0) + (2 if numbers else 1)
    return tuple(sorted(word for word, count in found.items() if count > 1))


def _find_numbers(written: Written, texts: dict[str, pl.Series]) -> None:
    """Find the separators by which most columns that look like numbers are numbers."""
    if not isinstance(written.format, Csv):
        return
    columns = {name: each for name, each in texts.items() if len(each) and _looks_like_numbers(each)}
    scores: list[tuple[int, int, dict[str, Any]]] = []
    for order, (changes, _) in enumerate(NUMBERS):
        right = sum(written.parsed(each, "double", **changes) is not None for each in columns.values())
        scores.append((-right, order, changes))
    if not columns:
        return
    best = sorted(scores, key=lambda score: score[:2])
    most, _, chosen = best[0]
    for right, _, other in best[1:]:
        if right == most and any(
            (mine := written.parsed(each, "double", **chosen)) is not None
            and (its := written.parsed(each, "double", **other)) is not None
            and not mine.equals(its)
            for each in columns.values()
        ):
            written.checks.append(f"numbers could also be written with {_said(other)}: the examples do not tell")
            break
    defaults = {"decimal": ".", "thousands": None}
    written.changes |= {key: value for key, value in chosen.items() if value != defaults[key]}


def _said(changes: dict[str, Any]) -> str:
    thousands = changes["thousands"]
    between = f" and {thousands!r} between thousands" if thousands else ""
    return f"the decimal separator {changes['decimal']!r}{between}"


def _looks_like_numbers(texts: pl.Series) -> bool:
    return all(text and NUMBER.fullmatch(text) and re.search(r"\d", text) for text in texts)


def _kind(written: Written, texts: pl.Series, rows: pl.DataFrame) -> str:
    """Return the type of a column, and note how its values are written."""
    if texts.is_empty():
        return "string"
    if (words := _boolean_words(texts)) and hasattr(written.format, "true_values"):
        true, false = words
        for key, word in (("true_values", true), ("false_values", false)):
            known = written.changes.get(key, ())
            written.changes[key] = known if word in known else (*known, word)
        return "boolean"
    if set(texts) <= {"true", "false"}:
        return "boolean"
    if _looks_like_numbers(texts):
        for kind in ("integer", "double"):
            if written.parsed(texts, kind) is not None:
                return kind
    if not any(re.search(r"\d", text) for text in texts[:20]):
        return "string"
    if written.parsed(texts, "date", date=None) is not None:
        if "date" in written.changes:
            written.add("date", "%Y-%m-%d")
        return "date"
    if _is_moment(written, texts):
        return "timestamp"
    if (form := _form(written, texts, rows, "date", DATES)) is not None:
        written.add("date", form)
        return "date"
    if (form := _form(written, texts, rows, "timestamp", [*moments()])) is not None:
        written.add("timestamp", form)
        if "%z" not in form:
            written.changes["timezone"] = written.zone
        return "timestamp"
    return "string"


def _boolean_words(texts: pl.Series) -> tuple[str, str] | None:
    found = set(texts)
    for true, false in BOOLEAN_WORDS:
        if (true, false) != ("1", "0") and found == {true, false}:
            return true, false
    return None


def _is_moment(written: Written, texts: pl.Series) -> bool:
    """Return whether texts are timestamps in ISO 8601, with an offset or without."""
    if written.parsed(texts, "timestamp", timestamp=None) is not None:
        return True
    if written.parsed(texts, "timestamp", timestamp=None, timezone=written.zone) is None:
        return False
    written.changes["timezone"] = written.zone
    return True


def _form(written: Written, texts: pl.Series, rows: pl.DataFrame, kind: str, forms: Sequence[str]) -> str | None:
    """Return the form of dates or timestamps. Of several that fit, it is the one that agrees with the days of files."""
    fitting: dict[str, pl.Series] = {}
    for form in forms:
        local = {} if "%z" in form or kind == "date" else {"timezone": written.zone}
        if written.parsed(texts[:20], kind, **{kind: form}, **local) is None:
            continue
        values = written.parsed(texts, kind, **{kind: form}, **local)
        if values is not None and not any(values.equals(other) for other in fitting.values()):
            fitting[form] = values
    if len(fitting) < 2:
        return next(iter(fitting), None)

    def agreement(form: str) -> tuple[float, float]:
        """Return how often a value is the day of its file, and how often that or the day before or after."""
        dates = days_of(fitting[form], written.zone)
        joined = rows.join(pl.DataFrame({"text": texts, "date": dates}), on="text", how="inner")
        apart = (joined["date"] - joined["day"]).dt.total_days().abs()
        return float((apart == 0).mean() or 0), float((apart <= 1).mean() or 0)  # type: ignore[arg-type]

    best = max(fitting, key=agreement)
    if not any(agreement(best)):
        written.checks.append(f"{kind}s such as {texts[0]} fit {' and '.join(fitting)}: the examples do not tell which")
    return best


def days_of(values: pl.Series, zone: str) -> pl.Series:
    """Return the local dates of dates or timestamps."""
    if values.dtype == pl.Date:
        return values
    return values.dt.convert_time_zone(str(ZoneInfo(zone))).dt.date()


def _column(name: str, kind: str, texts: pl.Series, column: pl.Series, written: Written, optional: bool) -> FoundColumn:
    data_class, why = _class(name, texts)
    check = why
    if data_class != "public":
        if data_class == "identifier":
            kind, form = "string", shape(texts) or ".+"
            check = f"{why}; does the format fit all values?"
        else:
            form = None
        return FoundColumn(name, kind, data_class, form, optional, column, check)
    values = column.to_frame("text").select(schemas.parse(pl.col("text"), kind, written.declared)).to_series()
    if texts.is_empty():
        check = "the examples have no value, so the type is a guess"
    form = shape(texts) if kind == "string" and _is_code(texts) else None
    return FoundColumn(name, kind, data_class, form, optional, values.alias(name), check)


def _class(name: str, texts: pl.Series) -> tuple[str, str]:
    """Return the class of a column by its name and its values, and why it may be personal data."""
    for what, matches in CONTENT.items():
        tried = texts[:500]
        if len(tried) and sum(map(matches, tried)) > 0.2 * len(tried):
            return "sensitive", f"values look like {what}"
    words = words_of(name)
    joined = "_".join(words)
    person = next((word for word in words if word in PERSONS or word.rstrip("s") in PERSONS), None)
    if person and {"name", "names"} & set(words):
        return "sensitive", "named like a person's name"
    if any(re.search(rf"(^|_){re.escape(each)}($|_)", joined) for each in SENSITIVE):
        return "sensitive", "named like personal data"
    if person and not {"type", "class", "count", "number_of", "age", "group", "segment", "status", "share"} & set(
        words
    ):
        return "identifier", "named like a person's id"
    return "public", ""


def words_of(name: str) -> list[str]:
    """Return the words of a name such as `customer_id` or `customerId`, in lower case."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    return [word for word in re.split(r"[^a-z0-9äöüß]+", apart) if word]


def _is_iban(text: str) -> bool:
    if not re.fullmatch(r"[A-Z]{2}\d{2}[A-Z0-9]{11,30}", text):
        return False
    return int("".join(str(int(letter, 36)) for letter in text[4:] + text[:4])) % 97 == 1


def _is_code(texts: pl.Series) -> bool:
    """Return whether all texts have one length, so that their form says something."""
    return len(texts) >= 5 and texts.str.len_chars().n_unique() == 1


def shape(texts: pl.Series) -> str | None:
    """Return a regular expression that all texts match, by kinds of characters; None if they have nothing in common."""
    shapes = {tuple(kind for kind, _ in _runs(text)) for text in texts}
    if len(shapes) == 1:
        runs = [[*_runs(text)] for text in texts]
        return "".join(
            kind + _times(min(run[n][1] for run in runs), max(run[n][1] for run in runs))
            for n, kind in enumerate(next(iter(shapes)))
        )
    letters = {_kind_of(letter) for text in texts for letter in text}
    if not letters or not letters <= {"[0-9]", "[A-Z]", "[a-z]", r"\-", "_", r"\."}:
        return None
    sizes = [len(text) for text in texts]
    inside = "".join(each.strip("[]") if each.startswith("[") else each for each in sorted(letters - {r"\-"}))
    inside += "-" if r"\-" in letters else ""
    return f"[{inside}]{_times(min(sizes), max(sizes))}"


def _runs(text: str) -> Iterator[tuple[str, int]]:
    for kind, run in groupby(text, key=_kind_of):
        yield kind, len([*run])


def _kind_of(letter: str) -> str:
    for kind in ("[0-9]", "[A-Z]", "[a-z]"):
        if re.fullmatch(kind, letter):
            return kind
    return re.escape(letter)


def _times(least: int, most: int) -> str:
    if least == most:
        return "" if least == 1 else f"{{{least}}}"
    return f"{{{least},{most}}}"


def date_column(columns: Sequence[FoundColumn], rows: pl.DataFrame, zone: str) -> tuple[str | None, float]:
    """Return the date or timestamp that is the day of its file most often, and how often."""
    best: tuple[str | None, float] = (None, 0.0)
    for column in columns:
        if column.type in ("date", "timestamp") and column.data_class == "public" and column.values.null_count() == 0:
            share = float((days_of(column.values, zone) == rows["_day"]).mean() or 0)  # type: ignore[arg-type]
            if share > best[1]:
                best = (column.name, share)
    return best


NEIGHBOURS = {-1: "the day before", 1: "the day after"}
"""What a file may be named by instead of the day of its rows."""
SURE = 0.99
"""The share of rows that must be of the neighbouring day, if files are named by that."""


def neighbour(columns: Sequence[FoundColumn], rows: pl.DataFrame, zone: str) -> tuple[str | None, int]:
    """Return the date or timestamp that is nearly always one day off the day of its file, and `path_day` then."""
    for path_day in NEIGHBOURS:
        shifted = rows.with_columns(pl.col("_day").dt.offset_by(f"{-path_day}d"))
        name, share = date_column(columns, shifted, zone)
        if share >= SURE:
            return name, path_day
    return None, 0


def calendar_of(days: Sequence[date]) -> str | None:
    """Return the weekdays that have files, as `days` of a feed; None if all have, or two weeks are not covered."""
    if not days or (days[-1] - days[0]).days < 13:
        return None
    names = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
    there = sorted({day.weekday() for day in days})
    if len(there) == 7:
        return None
    if there == [*range(there[0], there[-1] + 1)] and len(there) > 1:
        return f"{names[there[0]]}-{names[there[-1]]}"
    return f"[{', '.join(names[day] for day in there)}]"
