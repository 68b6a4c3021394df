"""Kinds of evidence: a test that ran, rows that a nightly run wrote, what every model declares, and a page.

Each kind says why it does not count, in a sentence for people, or that it counts.
"""

import subprocess
import xml.etree.ElementTree as ET
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from include.config.model import Model

RESULTS = "build/tests"
"""Where `make test` and `make drills` leave their results, in JUnit's XML."""


@dataclass(frozen=True)
class EndedTest:
    """How a test ended: its file, its name without parameters, and when its suite began."""

    file: str
    name: str
    passed: bool
    at: datetime


@dataclass(frozen=True)
class Sources:
    """What evidence is looked for in.

    Attributes:
        root: the folder of the repository.
        now: when the score is computed.
        count: runs a query of the shared database that counts rows; None without a database.
        changed_at: returns when a file of the repository changed last, None if that is not known.
        models: all models of the installation.
    """

    root: Path
    now: datetime
    count: Callable[[str], int] | None
    changed_at: Callable[[Path], datetime | None]
    models: Sequence[Model] = field(default=())

    @cached_property
    def results(self) -> list[EndedTest]:
        """The newest results of all suites."""
        return [each for path in sorted((self.root / RESULTS).glob("*.xml")) for each in read_results(path)]


class Piece(ABC):
    """Something that shows that a test of the rubric is done."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What it is, for people."""

    @abstractmethod
    def why_not(self, found: Sources) -> str | None:
        """Return why it does not count, None if it counts."""


@dataclass(frozen=True)
class Ran(Piece):
    """A test, or all tests of a file, ran in CI's suites in the last week, passed, and did not change since.

    `*` in the path stands for the folders of projects: each project that has the file must have the result.
    """

    test: str
    max_age: ClassVar[timedelta] = timedelta(days=7)
    command: ClassVar[str] = "make test"

    @property
    def name(self) -> str:
        """Return what it is."""
        return self.test

    def why_not(self, found: Sources) -> str | None:
        """Return what the newest results lack."""
        pattern, _, name = self.test.partition("::")
        files = sorted(path.relative_to(found.root).as_posix() for path in found.root.glob(pattern))
        if not files:
            return f"{pattern} does not exist"
        return next((why for file in files if (why := self._why_not(file, name, found))), None)

    def _why_not(self, file: str, name: str, found: Sources) -> str | None:
        test = f"{file}::{name}" if name else file
        ran = [each for each in found.results if each.file == file and name in {"", each.name}]
        if not ran:
            return f"{test} has no result: {self.command}"
        if not all(each.passed for each in ran):
            return f"{test} failed or was skipped"
        at = min(each.at for each in ran)
        if found.now - at > self.max_age:
            return f"{test} ran {(found.now - at).days} days ago: {self.command}"
        changed_at = found.changed_at(found.root / file)
        if changed_at is not None and changed_at > at:
            return f"{file} changed after it ran: {self.command}"
        return None


@dataclass(frozen=True)
class Drilled(Ran):
    """A long test that ran in the last quarter."""

    max_age: ClassVar[timedelta] = timedelta(days=92)
    command: ClassVar[str] = "make drills"


@dataclass(frozen=True)
class DatabaseRows(Piece):
    """Rows of the shared database, which nightly runs wrote. `query` counts them, with the rights of ops_reader."""

    what: str
    query: str

    @property
    def name(self) -> str:
        """Return what it is."""
        return self.what

    def why_not(self, found: Sources) -> str | None:
        """Return what the database lacks."""
        if found.count is None:
            return f"no database, so nothing shows {self.what}: make run"
        return None if found.count(self.query) else f"the database has no {self.what}"


@dataclass(frozen=True)
class Declared(Piece):
    """What `model.yaml` of each model declares."""

    what: str
    holds: Callable[[Model], bool]

    @property
    def name(self) -> str:
        """Return what it is."""
        return f"each model.yaml: {self.what}"

    def why_not(self, found: Sources) -> str | None:
        """Return which models do not declare it."""
        without = [model.name for model in found.models if not self.holds(model)]
        if not found.models:
            return "there is no model"
        return f"model.yaml of {', '.join(without)}: no {self.what}" if without else None


@dataclass(frozen=True)
class Documented(Piece):
    """A page that says it, under a heading or in these words."""

    page: str
    says: str

    @property
    def name(self) -> str:
        """Return what it is."""
        return f"{self.page}: {self.says}"

    def why_not(self, found: Sources) -> str | None:
        """Return what the page lacks."""
        path = found.root / self.page
        if not path.exists():
            return f"{self.page} does not exist"
        said = " ".join(path.read_text(encoding="utf-8").split())
        return None if self.says in said else f"{self.page} does not say {self.says!r}"


def read_results(path: Path) -> Iterator[EndedTest]:
    """Yield the results in a file of JUnit's XML, as pytest writes it."""
    for suite in ET.parse(path).getroot().iter("testsuite"):
        at = datetime.fromisoformat(suite.attrib["timestamp"])
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
        for case in suite.iter("testcase"):
            parts = case.attrib["classname"].split(".")
            module = next((n for n, part in enumerate(parts) if part.startswith("test_")), len(parts) - 1)
            yield EndedTest(
                file="/".join(parts[: module + 1]) + ".py",
                name=case.attrib["name"].partition("[")[0],
                passed=not any(case.find(tag) is not None for tag in ("failure", "error", "skipped")),
                at=at,
            )


def changed_at(path: Path) -> datetime | None:
    """Return when a file changed last: when it was committed, or now if it has changes that were not."""
    try:
        if _git(path, "status", "--porcelain"):
            return datetime.now(UTC)
        committed = _git(path, "log", "-1", "--format=%ct")
    except (OSError, subprocess.CalledProcessError):  # no repository: an archive, or an image
        return None
    return datetime.fromtimestamp(int(committed), UTC) if committed else None


def _git(path: Path, command: str, *options: str) -> str:
    done = subprocess.run(
        ["git", command, *options, "--", path.name], cwd=path.parent, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()
