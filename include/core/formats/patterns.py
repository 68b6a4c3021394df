"""The forms of dates and timestamps: which ones may be declared, and what polars calls them."""

import re

DIRECTIVES = {
    "Y": "year, four digits",
    "y": "year, two digits",
    "m": "month",
    "b": "month, Jan",
    "B": "month, January",
    "d": "day",
    "j": "day of the year",
    "H": "hour",
    "I": "hour, 1 to 12",
    "p": "AM or PM",
    "M": "minute",
    "S": "second",
    "f": "fraction of a second",
    "z": "offset",
}
"""What a form can have, as in Python's `strftime`. Weekdays are not here, because nothing would check them."""

TIME = frozenset("HIpMSfz")


def require_clear(key: str, pattern: str) -> None:
    """Raise ValueError, which begins with the key, if a form does not say exactly one day, or moment."""
    directives = re.findall(r"%(.?)", pattern)
    if unknown := [d for d in directives if d not in DIRECTIVES]:
        known = ", ".join(f"%{name}" for name in DIRECTIVES)
        raise ValueError(f"{key}: {pattern!r} has %{unknown[0]}; there is {known}")
    has = set(directives)
    day = "j" in has or ("d" in has and has & set("mbB"))
    if not (has & set("Yy") and day) or len(directives) > len(has):
        raise ValueError(f"{key}: {pattern!r} must have year, month and day once each, such as %Y-%m-%d")
    if key == "date" and has & TIME:
        raise ValueError(f"{key}: {pattern!r} has a time; declare the column as a timestamp")
    if ("I" in has) != ("p" in has) or {"H", "I"} <= has:
        raise ValueError(f"{key}: {pattern!r} needs %H, or %I with %p")
    if "f" in has and "%S.%f" not in pattern:
        raise ValueError(f"{key}: {pattern!r}: write fractions of a second as %S.%f")


def of_polars(pattern: str) -> str:
    """Return a form for polars: there a fraction is `%.f`, and `%#z` is an offset in any spelling (Z, +01, +01:00)."""
    return pattern.replace(".%f", "%.f").replace("%z", "%#z")
