"""The path of a feed: the pattern of the keys of its files, below `landing/<project>/`. Pure; `io/landing.py` lists.

`*` stands for any text without a slash, `{day}` for a day as in 2026-03-04, and `{day:%Y/%m/%d}` for a day in another
form. The same part of a day may stand in a path several times. `{part}` (any text without a slash) and `{hour}` (00 to
23) name one of the several files of a day.
"""

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

DIGITS = {"%Y": 4, "%m": 2, "%d": 2, "%j": 3}
"""The parts of a day that a path may have, and how many digits each has."""

PARTS = ("{part}", "{hour}")
"""What names one of the several files of a day."""

_ISO = "%Y-%m-%d"
_FIELD = re.compile(r"\{day(?::([^{}]*))?\}")
_PART = re.compile(r"%.?")
_NAMES = {"part": "[^/]+", "hour": "(?:[01][0-9]|2[0-3])"}
_DIGIT = "\0"
"""Stands for any digit where two paths are compared; no path has the character itself."""


def refuse_path(path: str, *, dated: bool = True) -> None:
    """Raise `ValueError` for a path that is no pattern of files; with `dated`, it must say the day of each file."""
    forms = [field[1] or _ISO for field in _FIELD.finditer(path)]
    if not forms and dated:
        raise ValueError(f"{path!r} has no {{day}}")
    literal = _FIELD.sub("", path)
    for part in PARTS:
        literal = literal.replace(part, "")
    if "{" in literal or "}" in literal:
        raise ValueError(f"{path!r} has braces other than {{day}}, such as {{day:%Y/%m/%d}}, {{part}} and {{hour}}")
    parts = [part for form in forms for part in _PART.findall(form)]
    if wrong := [part for part in parts if part not in DIGITS]:
        raise ValueError(f"{path!r} has {wrong[0]!r}; a day is made of {', '.join(DIGITS)}")
    if forms and not says_day(path):
        raise ValueError(f"{path!r} does not say which day it is: write {{day}}, or {{day:…}} with %Y, %m and %d")
    if odd := sorted({letter for letter in path if letter in "?[]\\" or not letter.isprintable()}):
        raise ValueError(f"{path!r} has {odd[0]!r}; the only wildcard is *")
    segments = path.split("/")
    if {"", ".", ".."} & set(segments) or any("**" in segment for segment in segments):
        raise ValueError(f"{path!r}: write it relative to landing/<project>/, with * for one part between slashes")


def says_day(path: str) -> bool:
    """Return whether a path, or the beginning of one, says the whole day."""
    parts = set(re.findall(r"%.", "".join(field[1] or _ISO for field in _FIELD.finditer(path))))
    return {"%Y", "%m", "%d"} <= parts or {"%Y", "%j"} <= parts


def begin(path: str) -> str:
    """Return the folders of a path, and the beginning of its name, that have no wildcard and no part."""
    return re.split(r"\*|\{part\}|\{hour\}", path, maxsplit=1)[0]


def has_parts(path: str) -> bool:
    """Return whether a path, or the beginning of one, names one of several files of a day."""
    return any(part in path for part in PARTS)


def set_key(path: str, day: date) -> str:
    """Return the key of all files of a day together: the path with that day, in which the parts stay open."""
    return _FIELD.sub(lambda field: day.strftime(field[1] or _ISO), path)


def pattern(path: str, day: date | None = None) -> str:
    """Return the glob pattern of the files of a day, or of all days."""
    for part in PARTS:
        path = path.replace(part, "*")
    if day is not None:
        return re.sub(r"\*+", "*", set_key(path, day))
    whole = _FIELD.sub(lambda field: _PART.sub("*", field[1] or _ISO), path)
    return re.sub(r"\*+", "*", whole)  # ** would stand for folders


class DayOfKey:
    """Find the day of the rows in keys that match a path, whose day is `path_day` days after it."""

    def __init__(self, path: str, path_day: int = 0) -> None:
        self._parts: list[str] = []
        self._path_day = timedelta(days=path_day)
        self._regex = re.compile("".join(self._pieces(path)))

    def matches(self, key: str) -> re.Match[str] | None:
        """Return the match of a key, None if the key is none of the feed's."""
        return self._regex.fullmatch(key)

    def day(self, match: re.Match[str]) -> date | None:
        """Return the day of a match, None if there is no such day, as in 2026-02-30."""
        found = " ".join(match[part[1:]] for part in self._parts)
        try:
            return datetime.strptime(found, " ".join(self._parts)).replace(tzinfo=UTC).date() - self._path_day
        except (ValueError, OverflowError):
            return None

    def part(self, match: re.Match[str]) -> str | None:
        """Return the name of the part in a match, None if the path has no parts."""
        named = [match[name] for name in ("hour", "part") if name in self._regex.groupindex]
        return "/".join(named) or None

    def _pieces(self, path: str) -> Iterator[str]:
        """Yield a regular expression for each piece; a part of a day that comes again must be the same."""
        named: set[str] = set()
        for piece in _split(path):
            if piece == "*":
                yield "[^/]*"
            elif piece in PARTS:
                name = piece.strip("{}")
                yield f"(?P={name})" if name in named else f"(?P<{name}>{_NAMES[name]})"
                named.add(name)
            elif piece not in DIGITS:
                yield re.escape(piece)
            elif piece in self._parts:
                yield f"(?P={piece[1:]})"
            else:
                self._parts.append(piece)
                yield f"(?P<{piece[1:]}>[0-9]{{{DIGITS[piece]}}})"


def can_meet(one: str, other: str) -> bool:
    """Return whether some key may match both paths.

    It is exact, except that a part of a day that comes again may differ.
    """
    a, b = _letters(one), _letters(other)
    todo, seen = [(0, 0)], set()
    while todo:
        i, j = at = todo.pop()
        if at in seen:
            continue
        seen.add(at)
        x, y = a[i : i + 1], b[j : j + 1]
        if not x and not y:
            return True
        if x == ["*"]:
            todo += [(i + 1, j), *([(i, j + 1)] if y and y != ["/"] else [])]
        elif y == ["*"]:
            todo += [(i, j + 1), *([(i + 1, j)] if x and x != ["/"] else [])]
        elif x and y and _same(x[0], y[0]):
            todo.append((i + 1, j + 1))
    return False


def _split(path: str) -> list[str]:
    """Return the pieces of a path: wildcards, parts of a day, names of parts, and text."""
    written = _FIELD.sub(lambda field: field[1] or _ISO, path)
    return [piece for piece in re.split(r"(\*|%[Ymdj]|\{part\}|\{hour\})", written) if piece]


def _letters(path: str) -> list[str]:
    """Return what stands at each place of a key: a letter, any digit, or `*` for any text."""
    meant = {piece: _DIGIT * digits for piece, digits in DIGITS.items()} | {"{part}": "*", "{hour}": _DIGIT * 2}
    return [letter for piece in _split(path) for letter in meant.get(piece, piece)]


def _same(x: str, y: str) -> bool:
    return x == y or (x == _DIGIT and y in "0123456789") or (y == _DIGIT and x in "0123456789")
