"""The order of versions in each ecosystem, as keys to sort by.

PyPI's is from `packaging`. No package that we have knows the other two, so they are here: Maven's from its reference
(https://maven.apache.org/pom.html#version-order-specification), Debian's from deb-version(7).
"""

import re
from collections.abc import Callable
from typing import Any

from packaging.version import InvalidVersion, Version


class Unordered(ValueError):
    """A text is no version, so that it cannot be compared."""


def pypi(text: str) -> Any:
    """Return the key of a version on PyPI."""
    try:
        return Version(text)
    except InvalidVersion as error:
        raise Unordered(text) from error


MAVEN_QUALIFIERS = ("alpha", "beta", "milestone", "rc", "snapshot", "", "sp")
MAVEN_ALIASES = {"a": "alpha", "b": "beta", "m": "milestone", "cr": "rc", "ga": "", "final": "", "release": ""}
MAVEN_TOKEN = re.compile(r"(?P<separator>[-.]?)(?P<token>\d+|[^\d.-]+)")
MavenKey = tuple[int, tuple[int, str]]
MAVEN_END: MavenKey = (0, (MAVEN_QUALIFIERS.index(""), ""))


def maven(text: str) -> Any:
    """Return the key of a version of Maven: 1-alpha < 1-rc1 < 1 = 1.0 = 1.Final < 1-sp < 1-jre < 1-1 < 1.0.1."""
    parts: list[MavenKey] = []
    for match in MAVEN_TOKEN.finditer(text.lower()):
        token = match["token"]
        if token.isdigit():
            parts.append((2 if match["separator"] == "." or not parts else 1, (int(token), "")))
        else:
            _drop_nothing(parts)  # 1.0.0-rc is 1-rc
            name = MAVEN_ALIASES.get(token, token)
            known = name in MAVEN_QUALIFIERS
            parts.append((0, (MAVEN_QUALIFIERS.index(name), "") if known else (len(MAVEN_QUALIFIERS), name)))
    _drop_nothing(parts)
    return (*parts, MAVEN_END)


def _drop_nothing(parts: list[MavenKey]) -> None:
    while len(parts) > 1 and parts[-1] in ((1, (0, "")), (2, (0, "")), MAVEN_END):
        parts.pop()


def debian(text: str) -> Any:
    """Return the key of a version of Debian: epoch, upstream version, revision."""
    epoch, colon, rest = text.rpartition(":")
    if colon and not epoch.isdigit():
        raise Unordered(text)
    upstream, _, revision = rest.rpartition("-") if "-" in rest else (rest, "", "0")
    return int(epoch or 0), _debian_part(upstream), _debian_part(revision)


def _debian_part(text: str) -> Any:
    """Return alternating texts and numbers. In a text, `~` is before its end, and letters are before other signs."""
    key: list[Any] = []
    for match in re.finditer(r"(\D*)(\d*)", text):
        signs = [-1 if sign == "~" else ord(sign) if sign.isalpha() else ord(sign) + 256 for sign in match[1]]
        key.extend(((*signs, 0), int(match[2] or 0)))
    return tuple(key)


ORDER: dict[str, Callable[[str], Any]] = {"PyPI": pypi, "Maven": maven, "Debian": debian}
