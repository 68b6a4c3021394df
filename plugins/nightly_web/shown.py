"""What a page is made of: facts, actions, commands, and parts with charts and tables. `page.html.j2` shows it. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from nightly_web.database import Row
from nightly_web.words import Link, Table


@dataclass(frozen=True)
class Section:
    """A part of a page: its anchor, its title, a sentence about it, its charts and its tables."""

    id: str
    title: str
    about: str = ""
    charts: Sequence[Markup] = ()
    tables: Sequence[Table] = ()
    choices: Sequence[Link] = ()


@dataclass(frozen=True)
class Page:
    """A page."""

    title: str
    about: str = ""
    crumbs: Sequence[tuple[str, str]] = ()
    incidents: Sequence[Row] = ()
    facts: Sequence[tuple[str, Any]] = ()
    actions: Sequence[Link] = ()
    commands: Sequence[tuple[str, str]] = ()
    parts: Sequence[Section] = field(default_factory=tuple)

    def values(self) -> dict[str, Any]:
        """Return what the template shows."""
        return {**vars(self), "found": self.incidents, "facts_of": self.facts}
