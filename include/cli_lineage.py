"""The commands that look back, which `include.cli` adds to its own: tables as they were, what came from what, latency.

There is no logic here: each command calls one operation.
"""

from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path
from typing import Annotated

import polars as pl
import typer

from include.cli_options import ProjectOption, as_day
from include.config.loading import load_model, load_project
from include.core.errors import ActionRequiredError
from include.core.settings import Settings
from include.core.terminal import blocks, terminal_width


def commands(settings: Callable[[], Settings], say: Callable[[str], None]) -> typer.Typer:
    """Return the commands.

    Args:
        settings: reads the settings when a command runs.
        say: prints a line.
    """
    app = typer.Typer()

    @app.command()
    def show(
        table: Annotated[str, typer.Option(help="a Delta table, such as raw_<project>__<feed>")],
        table_version: Annotated[
            int | None, typer.Option(min=0, metavar="N", help="a version of the table; default: the newest")
        ] = None,
        as_of: Annotated[
            datetime | None,
            typer.Option(
                formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S%z"],
                metavar="MOMENT",
                help="as it was then: UTC, such as 2026-03-01 or 2026-03-01T05:00:00; +0100 after it is a timezone",
            ),
        ] = None,
        day: Annotated[date | None, typer.Option(parser=as_day, metavar="DAY", help="only rows of this day")] = None,
        rows: Annotated[int, typer.Option(min=1, metavar="N", help="the most rows that are printed")] = 20,
        csv: Annotated[Path | None, typer.Option(dir_okay=False, help="write all rows to this new file")] = None,
        parquet: Annotated[Path | None, typer.Option(dir_okay=False, help="write all rows to this new file")] = None,
    ) -> None:
        """Show a table as it was. Identifiers are hashed and personal columns left out, as they are stored."""
        from include.operations.show import show as look_up

        found = look_up(table, settings(), version=table_version, as_of=as_of, day=day)
        count = found.count()
        say(f"{table} version {found.version} of {found.committed_at:%Y-%m-%d %H:%M:%S} UTC: {count} rows")
        for file, kind in ((csv, "csv"), (parquet, "parquet")):
            if file is not None:
                found.write(file, "csv" if kind == "csv" else "parquet")
                say(f"{file} has them")
        if csv is None and parquet is None:
            with pl.Config(tbl_rows=rows, tbl_cols=-1, tbl_hide_dataframe_shape=True, tbl_width_chars=-1):
                lines, width = str(head := found.head(rows)).splitlines(), terminal_width()
            if width is not None and max(map(len, lines)) > width:
                lines = blocks(head.columns, [[*map(str, row)] for row in head.iter_rows()])
            for line in lines:
                say(line)
            if count > rows:
                say(f"the first {rows} of {count} rows; all of them: --csv FILE or --parquet FILE")

    @app.command()
    def lineage(
        model: Annotated[str | None, typer.Option(help="a model, with --version or --day")] = None,
        version: Annotated[
            int | None,
            typer.Option("--version", "--model-version", min=1, metavar="N", help="what a version came from"),
        ] = None,
        day: Annotated[
            date | None,
            typer.Option(parser=as_day, metavar="DAY", help="what the published predictions of a run date came from"),
        ] = None,
        entity: Annotated[str | None, typer.Option(help="with --day: one entity_id")] = None,
        project: Annotated[str | None, typer.Option(help="a project, with --delivery")] = None,
        delivery: Annotated[
            str | None, typer.Option(help="what was made from a delivery, as alerts and `journal show` name it")
        ] = None,
        *,
        as_json: Annotated[bool, typer.Option("--json", help="print everything, as JSON")] = False,
    ) -> None:
        """Say what a version or a prediction came from, or what was made from a delivery."""
        from include.operations import lineage as look
        from include.operations import lineage_words as words

        if model and version is not None and day is None and delivery is None:
            of_version = look.of_version(load_model(model), version, settings())
            record, tree = of_version.model_dump_json(indent=2), words.version_tree(of_version)
        elif model and day is not None and version is None and delivery is None:
            of_day = look.of_prediction(load_model(model), day, entity, settings())
            record, tree = of_day.model_dump_json(indent=2), words.prediction_tree(of_day)
        elif project and delivery is not None and model is None:
            of_delivery = look.of_delivery(load_project(project), delivery, settings())
            record, tree = of_delivery.model_dump_json(indent=2), words.delivery_tree(of_delivery)
        else:
            raise ActionRequiredError(
                "give --model and --version, --model and --day, or --project and --delivery, such as "
                "--model NAME --version 12"
            )
        for line in record.splitlines() if as_json else words.lines(tree):
            say(line)

    @app.command()
    def latency(
        project: ProjectOption,
        start: Annotated[
            date | None, typer.Option(parser=as_day, metavar="DAY", help="first run date; default: all")
        ] = None,
        end: Annotated[date | None, typer.Option(parser=as_day, metavar="DAY", help="last run date, included")] = None,
    ) -> None:
        """Say how long each run date took from the landing of its last file to its published predictions."""
        from include.operations.latency import lines_of

        for line in lines_of(load_project(project), settings(), start, end, width=terminal_width()):
            say(line)

    return app
