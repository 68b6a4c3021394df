"""`make new-project NAME=… FILES=… TIMEZONE=…`: write a project from example files, after showing what was found."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo

import typer
from rich.box import SIMPLE
from rich.markup import escape as unmarked
from rich.table import Table

from include.cli_say import say
from include.config.loading import PROJECTS, model_names, project_names
from include.core.errors import ActionRequiredError
from include.core.printable import printable
from include.core.settings import project_folders
from tools.console import console_for_people
from tools.new_project.database import TableRows, find_tables
from tools.new_project.files import FeedFiles, find_feeds
from tools.new_project.relations import FoundProject, find_feed, relate
from tools.new_project.write import check, render, write

console = console_for_people()
FIRST = """
  0. export NIGHTLY_PROJECTS={folder}, also where Airflow runs: nothing finds the project otherwise."""
NEXT = """wrote {folder}
Next:{first}
  1. Read project.yaml and settle each line with CHECK; then expectations.yaml and features.py.
  2. python -m include.cli check_config --project {name}
  3. python -m pytest {tests}
  4. docs/your-data.md: from here to the first published prediction."""


def find(
    folder: Path | None, zone: str, entity: str, outcome: str, connection: str = "", tables: str = ""
) -> FoundProject:
    """Return what the example files below a folder, and the tables of a database, say.

    Raises:
        ActionRequiredError: in words.
    """
    feeds: list[FeedFiles | TableRows] = [*find_feeds(folder)] if folder else []
    if connection:
        feeds += find_tables(connection, [name for name in re.split(r"[,\s]+", tables) if name], zone)
    if not feeds:
        raise ActionRequiredError("name example files, FILES=folder, or tables, DATABASE=connection TABLES=plan,sales")
    if twice := {each.name for each in feeds if [other.name for other in feeds].count(each.name) > 1}:
        raise ActionRequiredError(f"two feeds would have the name {twice.pop()}; rename the folder of its files")
    return relate([find_feed(each, zone) for each in feeds], zone, entity, outcome)


def escape(text: str) -> str:
    """Return text from a file, such as the name of a column, so that the terminal shows it and does not obey it."""
    return unmarked(printable(text))


def show(project: FoundProject) -> None:
    """Print what was found, without a value of the examples."""
    for feed in project.feeds.values():
        days = feed.files.days
        when = f"{len(days)} days, {days[0]} to {days[-1]}" if days else "a snapshot"
        console.print(f"[bold]{escape(feed.name)}[/bold]: {escape(feed.files.pattern or feed.files.where)}")
        console.print(f"  {when}; {feed.rows.height:,} rows read; {escape(feed.format.line())}")
        table = Table(show_edge=False, pad_edge=False, box=SIMPLE)
        for header in ("column", "type", "class", "form"):
            table.add_column(header, overflow="fold")
        table.add_column("check")
        for column in feed.columns.values():
            mark = " (key)" if column.name in feed.key else " (day)" if column.name == feed.day_column else ""
            table.add_row(
                escape(column.name) + mark, column.type, column.data_class, escape(column.format or ""), column.check
            )
        console.print(table)
        for line in feed.checks:
            console.print(f"  check: {escape(line)}")
        console.print()
    console.print(
        f"Each row of {project.entity.name} gets a prediction of {project.result.name}.{escape(project.outcome.name)} "
        f"({project.problem_type}). If that is wrong, say ENTITY=feed OUTCOME=feed.column."
    )


def main(
    name: Annotated[str, typer.Option(help="of the folder, the DAGs and the tables")],
    timezone: Annotated[str, typer.Option(help="in which days begin, such as Europe/Berlin")],
    files: Annotated[str, typer.Option(help="the folder of example files, as they lie below landing/<project>/")] = "",
    database: Annotated[str, typer.Option(help="the name of a connection, whose URL NIGHTLY_SOURCES has")] = "",
    tables: Annotated[str, typer.Option(help="its tables, with commas between them")] = "",
    title: Annotated[str, typer.Option(help="the project's name for people")] = "",
    owner: Annotated[str, typer.Option(help="the team that answers for it")] = "data-team",
    entity: Annotated[str, typer.Option(help="the feed whose rows are predicted")] = "",
    outcome: Annotated[str, typer.Option(help="feed.column that is predicted")] = "",
    folder: Annotated[Path | None, typer.Option(help="the folder of projects to write into")] = None,
    yes: Annotated[bool, typer.Option(help="do not ask")] = False,
) -> None:
    """Write the folder of a new project."""
    folder = folder or PROJECTS
    first = "" if folder.resolve() in [PROJECTS.resolve(), *_named()] else FIRST.format(folder=folder)
    with _ends_in_words(), _made(folder):
        target = _target(name, timezone, folder)
        project = find(Path(files) if files else None, timezone, entity, outcome, database, tables)
        show(project)
        texts = render(project, name, title or name.replace("_", " ").capitalize(), owner, target)
        if taken := {path.split("/")[1] for path in texts if path.startswith("models/")} & set(model_names()):
            raise ActionRequiredError(f"there is a model {taken.pop()!r} already; choose another NAME")
        check(texts, name)
        if not yes and not typer.confirm(f"Write {target}?"):
            raise typer.Exit(1)
        tests = tests_of(target)
        write(texts, target, tests)
    said = NEXT.format(folder=os.path.relpath(target), name=name, tests=os.path.relpath(tests), first=first)
    say(*said.splitlines())


@contextmanager
def _ends_in_words() -> Iterator[None]:
    """End with the text of an error that a person has to fix, without a traceback."""
    try:
        yield
    except ActionRequiredError as error:
        say(*error.lines, error=True)
        raise typer.Exit(2) from error


@contextmanager
def _made(folder: Path) -> Iterator[None]:
    """Make the folder to write into if NIGHTLY_PROJECTS names it already; remove it if nothing was written."""
    is_new = not folder.exists() and folder.resolve() in _named()
    if is_new:
        folder.mkdir(parents=True)
    try:
        yield
    finally:
        if is_new and not any(folder.iterdir()):
            folder.rmdir()


def _named() -> list[Path]:
    return [path.resolve() for path in project_folders()]


def tests_of(folder: Path) -> Path:
    """Return where the unit tests of a project are: in `tests` of the repository, or beside a project elsewhere."""
    own = folder.parent.resolve() == PROJECTS.resolve()
    return (PROJECTS.parents[1] if own else folder.parent) / "tests" / folder.name / "unit"


def _target(name: str, timezone: str, folder: Path) -> Path:
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", name):
        raise ActionRequiredError(f"NAME={name}: lower-case letters, digits and _, beginning with a letter, 40 at most")
    if name in project_names() or (folder / name).exists():
        raise ActionRequiredError(f"NAME={name}: there is a project, or a folder, of that name; nothing was written")
    try:
        ZoneInfo(timezone)
    except (ValueError, OSError) as error:
        raise ActionRequiredError(f"TIMEZONE={timezone}: write it as Europe/Berlin or America/New_York") from error
    return folder / name


if __name__ == "__main__":
    typer.run(main)
