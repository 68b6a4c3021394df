"""Read a lock that `make lock` wrote: requirements.txt or requirements-dev.txt."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tools.generated import ROOT

PRODUCTION = ROOT / "requirements.txt"
LAPTOP = ROOT / "requirements-dev.txt"

REQUIREMENT = re.compile(
    r"(?P<requirement>(?P<name>[\w.-]+)(\[[\w,.-]+\])?==(?P<version>[^\s;]+)(?: ; (?P<marker>.*?))?)(?: \\)?$"
)
NEEDED_BY = re.compile(r"    #(?: via|  ) (?P<name>[\w.-]+)$")


@dataclass
class Locked:
    """One version of a package in a lock, with the Pythons and systems that it is for."""

    name: str
    version: str
    requirement: str
    marker: str | None = None
    hashes: list[str] = field(default_factory=list)
    needed_by: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """Return the entry as a lock has it."""
        return " \\\n    ".join([self.requirement, *(f"--hash={each}" for each in self.hashes)])


def locked(path: Path) -> dict[str, list[Locked]]:
    """Return the versions of each package that a lock has; most have one."""
    found: dict[str, list[Locked]] = {}
    each: Locked | None = None
    for line in path.read_text(encoding="utf-8").splitlines():
        if match := REQUIREMENT.match(line):
            each = Locked(match["name"], match["version"], match["requirement"], match["marker"])
            found.setdefault(each.name, []).append(each)
        elif each and line.startswith("    --hash="):
            each.hashes.append(line.strip().removeprefix("--hash=").removesuffix(" \\"))
        elif each and (match := NEEDED_BY.match(line)):
            each.needed_by.append(match["name"])
    return found


def needed_for(names: Iterable[str], lock: Mapping[str, Sequence[Locked]]) -> list[str]:
    """Return the packages of a lock that these need, with what those need in turn, in the order of their names."""
    found: set[str] = set()
    todo = [normalised(name) for name in names]
    while todo:
        if (name := todo.pop()) not in found:
            found.add(name)
            todo += [child for child, versions in lock.items() if any(name in each.needed_by for each in versions)]
    return sorted(found)


def normalised(name: str) -> str:
    """Return the name of a package as locks write it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()
