"""`make bench`: measure the goals about speed and size, print one table, and write it into `docs/speed.md`.

`ONLY=scale,publish` chooses. Each benchmark is a module with `results`; one that is not here yet is left out.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import import_module
from importlib.util import find_spec
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


def rendered(measured: Sequence[BenchRun], at: datetime, of: str) -> str:
    """Return the generated part of the page."""
    lines = [
        f"Measured on {at:%Y-%m-%d} on {of}.",
        "",
        "| goal | limit | figure | verdict | note |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {each.goal} | {each.limit} | {_figure(each)} | {_verdict(each)} | {each.note} |"
        for found in measured
        for each in found.with_verdicts
    ]
    busy = [found for found in measured if not found.load.is_trusted]
    lines += [""] + [f"While `{found.module}` was measured, the machine was too busy: {found.load}." for found in busy]
    return "\n".join(lines).rstrip() + "\n"


def write(page: Path, text: str) -> None:
    """Replace what stands between the two markers of the page.

    Raises:
        ValueError: the page lacks them.
    """
    old = page.read_text(encoding="utf-8")
    new, count = re.subn(
        f"{re.escape(BEGIN)}.*{re.escape(END)}", lambda _: f"{BEGIN}\n\n{text}\n{END}", old, flags=re.DOTALL
    )
    if count != 1:
        raise ValueError(f"{page} needs the markers {BEGIN} and {END}, once")
    page.write_text(new, encoding="utf-8")


def main(
    only: Annotated[str, typer.Option(help=f"some of {', '.join(MODULES)}, with commas; default: all")] = "",
    page: Annotated[
        Path | None, typer.Option(help="the page to write; default: docs/speed.md if all are measured")
    ] = None,
) -> None:
    """Measure, print one table, and write it; exit code 1 if a goal is missed."""
    chosen = [name for name in only.split(",") if name] or [*MODULES]
    if wrong := set(chosen) - set(MODULES):
        raise typer.BadParameter(f"{', '.join(sorted(wrong))}: there is {', '.join(MODULES)}")
    cpu.adopt_orphans()
    measured = []
    for name in chosen:
        if find_spec(f"bench.{name}") is None or not hasattr(module := import_module(f"bench.{name}"), "results"):
            console.print(f"{name}: has no goals to measure here")
            continue
        console.rule(name)
        meter = machine.LoadMeter()
        measured.append(BenchRun(name, module.results(), meter.read()))
    found = [each for of_module in measured for each in of_module.with_verdicts]
    console.print(machine.describe())
    console.print(goals_table(found))
    for each in measured:
        if not each.load.is_trusted:
            console.print(f"{each.module}: the machine was too busy to trust seconds: {each.load}")
    if page or not only:
        write(page or PAGE, rendered(measured, datetime.now(UTC), machine.describe()))
    raise typer.Exit(int(any(each.passed is False for each in found)))


if __name__ == "__main__":
    typer.run(main)
