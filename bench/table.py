"""`make bench`: measure the goals about speed and size, print one table, and write it into `docs/speed.md`.

`ONLY=scale,publish` chooses; the page keeps its rows of the others. Each benchmark is a module with `results`; one that
is not here yet is left out.
"""

import re
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import import_module
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from bench import cpu, machine
from bench.results import Result
from tools.console import console_for_people

MODULES = ("scale", "backfill", "publish", "history", "models", "many", "night", "peers", "pages", "questions", "drift")
PAGE = Path(__file__).parents[1] / "docs" / "speed.md"
BEGIN, END = "<!-- `make bench` writes from here -->", "<!-- to here -->"

console = console_for_people()


@dataclass(frozen=True)
class BenchRun:
    """What a benchmark found, and what else the machine did meanwhile."""

    module: str
    results: Sequence[Result]
    load: machine.Load

    @property
    def with_verdicts(self) -> list[Result]:
        """The results; those about time that passed have no verdict if the machine was too busy."""
        if self.load.is_trusted:
            return [*self.results]
        return [replace(each, passed=None) if each.is_elapsed else each for each in self.results]


def goals_table(results: Sequence[Result]) -> Table:
    """Return a table of goals for a terminal."""
    table = Table("goal", "limit", "figure", "verdict", "note", show_lines=True)
    for each in results:
        table.add_row(each.goal, each.limit, _figure(each), _verdict(each), each.note)
    return table


def _figure(result: Result) -> str:
    digits = 0 if abs(result.figure) >= 100 else 2
    return f"{result.figure:,.{digits}f} {result.unit}"


def _verdict(result: Result) -> str:
    return {True: "met", False: "MISSED", None: "no verdict"}[result.passed]


def rendered(measured: Sequence[BenchRun], at: datetime, of: str, old: str = "") -> str:
    """Return the generated part of the page: a row for each goal, then a line for each benchmark.

    Args:
        measured: the benchmarks that ran; what they found replaces what the page says of them.
        at: when.
        of: the commit and the machine.
        old: the generated part until now; it keeps what it says of other benchmarks.
    """
    rows = {name: [line for line in old.splitlines() if line.startswith(f"| {name} |")] for name in MODULES}
    runs = {name: [line for line in old.splitlines() if line.startswith(f"- `{name}`:")] for name in MODULES}
    for each in measured:
        rows[each.module] = [
            f"| {each.module} | {found.goal} | {found.limit} | {_figure(found)} | {_verdict(found)} | {found.note} |"
            for found in each.with_verdicts
        ]
        busy = "" if each.load.is_trusted else "too busy to trust seconds: "
        runs[each.module] = [f"- `{each.module}`: {at:%Y-%m-%d}, {of}; {busy}{each.load}"]
    head = ["| benchmark | goal | limit | figure | verdict | note |", "|---|---|---|---|---|---|"]
    return "\n".join([*head, *chain(*rows.values()), "", *chain(*runs.values())]) + "\n"


def write(page: Path, render: Callable[[str], str]) -> None:
    """Replace what stands between the two markers of the page by what a function makes of it.

    Raises:
        ValueError: the page lacks them.
    """
    parts = re.split(f"({re.escape(BEGIN)}|{re.escape(END)})", page.read_text(encoding="utf-8"))
    if parts[1::2] != [BEGIN, END]:
        raise ValueError(f"{page} needs the markers {BEGIN} and {END}, once")
    parts[2] = f"\n\n{render(parts[2])}\n"
    page.write_text("".join(parts), encoding="utf-8")


def main(
    only: Annotated[str, typer.Option(help=f"some of {', '.join(MODULES)}, with commas; default: all")] = "",
    page: Annotated[Path, typer.Option(help="the page whose rows of these benchmarks are replaced")] = PAGE,
) -> None:
    """Measure, print one table, and write it; exit code 1 if a goal is missed.

    The page is written after each benchmark, so that one that fails loses nothing of those before it.
    """
    chosen = [name for name in only.split(",") if name] or [*MODULES]
    if wrong := set(chosen) - set(MODULES):
        raise typer.BadParameter(f"{', '.join(sorted(wrong))}: there is {', '.join(MODULES)}")
    cpu.adopt_orphans()
    commit = subprocess.check_output(["git", "describe", "--always", "--dirty"], cwd=PAGE.parent, text=True).strip()
    of = f"commit {commit}, {machine.describe()}"
    measured: list[BenchRun] = []
    for name in chosen:
        if find_spec(f"bench.{name}") is None or not hasattr(module := import_module(f"bench.{name}"), "results"):
            console.print(f"{name}: has no goals to measure here")
            continue
        console.rule(name)
        meter = machine.LoadMeter()
        measured.append(BenchRun(name, module.results(), meter.read()))
        write(page, lambda old: rendered(measured[-1:], datetime.now(UTC), of, old))
    found = [each for of_module in measured for each in of_module.with_verdicts]
    console.print(machine.describe())
    console.print(goals_table(found))
    for each in measured:
        if not each.load.is_trusted:
            console.print(f"{each.module}: the machine was too busy to trust seconds: {each.load}")
    raise typer.Exit(int(any(each.passed is False for each in found)))


if __name__ == "__main__":
    typer.run(main)
