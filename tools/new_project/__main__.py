"""`make new-project NAME=… FILES=… TIMEZONE=…`: write a project from examples, after showing what was found.

The examples are files, tables of a database (`DATABASE=… TABLES=…`), or both.
"""

import os
import re
from collections import Counter
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape as unmarked
from rich.table import Table

from include.config.loading import PROJECTS, model_names, project_names
from include.core.errors import ActionRequiredError
from include.core.printable import printable
from tools.new_project.files import FeedFiles, find_feeds
from tools.new_project.relations import FoundFeed, FoundProject, find_feed, relate
from tools.new_project.tables import FeedTable, find_tables
from tools.new_project.write import check, render, write

console = Console(highlight=False)
NEXT = """wrote {folder}
Next:
  1. Read project.yaml and settle each line with CHECK; then expectations.yaml and features.py.
  2. python -m include.cli check_config --project {name}
  3. docs/your-data.md: from here to the first published prediction."""


def find(folder: Path | None, database: str, tables: str, zone: str, entity: str, outcome: str) -> FoundProject:
    """Return what the example files below a folder, and the tables of a database, say.

    Raises:
        ActionRequiredError: in words.
    """
    if not folder and not database:
        raise ActionRequiredError("name the folder of example files, FILES=…, or a database, DATABASE=… TABLES=…")
    named = re.findall(r"[^\s,]+", tables)
    if bool(database) != bool(named):
        raise ActionRequiredError(
            "DATABASE and TABLES belong together: TABLES='plan:delivery_day sales:sold_on stores'"
        )
    found: list[FeedFiles | FeedTable] = [*find_feeds(folder)] if folder else []
    found += find_tables(database, named, zone) if database else []
    if twice := [name for name, times in Counter(each.name for each in found).items() if times > 1]:
        raise ActionRequiredError(f"two feeds would be named {twice[0]}; rename a folder, or make a view of a table")
    return relate([find_feed(each, zone) for each in found], zone, entity, outcome)


def escape(text: str) -> str:
    """Return text from a file, such as the name of a column, so that the terminal shows it and does not obey it."""
    return unmarked(printable(text))


def format_of(feed: FoundFeed) -> str:
    """Return how the files of a feed are written; nothing for a table."""
    return "" if feed.query else f"; {escape(feed.format.line())}"


def show(project: FoundProject) -> None:
    """Print what was found, without a value of the examples."""
    for feed in project.feeds.values():
        days = feed.files.days
        when = f"{len(days)} days, {days[0]} to {days[-1]}" if days else "a snapshot"
        console.print(f"[bold]{escape(feed.name)}[/bold]: {escape(feed.files.place)}")
        console.print(f"  {when}; {feed.rows.height:,} rows read{format_of(feed)}")
        table = Table(show_edge=False, pad_edge=False, box=SIMPLE)
        for header in ("column", "type", "class"):
            table.add_column(header, no_wrap=True)
        table.add_column("form", overflow="fold")
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
    database: Annotated[str, typer.Option(help="a name in NIGHTLY_SOURCES")] = "",
    tables: Annotated[str, typer.Option(help="its tables, each with the column of the day: plan:day stores")] = "",
    title: Annotated[str, typer.Option(help="the project's name for people")] = "",
    owner: Annotated[str, typer.Option(help="the team that answers for it")] = "data-team",
    entity: Annotated[str, typer.Option(help="the feed whose rows are predicted")] = "",
    outcome: Annotated[str, typer.Option(help="feed.column that is predicted")] = "",
    folder: Annotated[Path | None, typer.Option(help="the folder of projects to write into")] = None,
    yes: Annotated[bool, typer.Option(help="do not ask")] = False,
) -> None:
    """Write the folder of a new project."""
    try:
        target = _target(name, timezone, folder or PROJECTS)
        project = find(Path(files) if files else None, database, tables, timezone, entity, outcome)
        show(project)
        texts = render(project, name, title or name.replace("_", " ").capitalize(), owner, target)
        if taken := {path.split("/")[1] for path in texts if path.startswith("models/")} & set(model_names()):
            raise ActionRequiredError(f"there is a model {taken.pop()!r} already; choose another NAME")
        check(texts, name)
        if not yes and not typer.confirm(f"Write {target}?"):
            raise typer.Exit(1)
        write(texts, target)
    except ActionRequiredError as error:
        typer.secho(str(error), fg="red", err=True)
        raise typer.Exit(2) from error
    typer.echo(NEXT.format(folder=os.path.relpath(target), name=name))


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
