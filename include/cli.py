"""Run steps and operations by hand, on a laptop or in a container.

    python -m include.cli land --project PROJECT --start 2026-03-01 --end 2026-03-03

The command line reads `NIGHTLY_*` variables (`. .local/env` sets them), writes the step's record to standard output,
and log lines to standard error. A record is lines for a person on a terminal, and JSON in a pipe, in a file or with
`--json`; `prepare`, `gate` and `adopt_model` print JSON only with `--json`. With exit code 2, it prints an error that
a person has to fix. There is no logic here: each command calls one step or operation.
"""

import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import typer
from pydantic import ValidationError
from pydantic_settings import SettingsError

from include.cli_alerts import commands as alerts_commands
from include.cli_incidents import commands as incident_commands
from include.cli_lineage import commands as lineage_commands
from include.cli_maintain import commands as maintain_commands
from include.cli_options import By, ProjectOption, Why, as_day
from include.cli_personal import commands as personal_commands
from include.cli_records import prints_json, prints_records
from include.cli_say import say
from include.cli_words import entry_words, message_words, promotion_words, words
from include.config.loading import load_model, load_project, project_names
from include.config.model import Model
from include.core.base import Record
from include.core.errors import ActionRequiredError, nearest
from include.core.interval import Interval
from include.core.log_lines import log_to_stderr
from include.core.periods import Period, PeriodKind
from include.core.printable import printable
from include.core.project import Project
from include.core.records import (
    BY_GATE,
    DataView,
    GateDecision,
    PublishMode,
    RolledBack,
    Scored,
    ShadowEnded,
    StepResult,
)
from include.core.settings import DATABASE_URL, Settings
from include.core.terminal import terminal_width

app = typer.Typer(
    help=__doc__.split("\n\n")[0], no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False
)


Start = Annotated[date, typer.Option(parser=as_day, metavar="DAY", help="first day, such as 2026-03-01")]
Day = Annotated[date, typer.Option(parser=as_day, metavar="DAY", help="run date, such as 2026-03-01")]
End = Annotated[
    date | None, typer.Option(parser=as_day, metavar="DAY", help="last day, included; default: the first day")
]
DeliveryOption = Annotated[str, typer.Option("--delivery", help="a delivery, as alerts and `journal show` name it")]
AsJson = Annotated[bool, typer.Option("--json", help="print the steps' records as JSON instead")]
VersionOption = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="this version instead of each day's champion")
]
Data = Annotated[
    DataView,
    typer.Option("--data", help="point_in_time: what each day's own run knew; latest: everything landed since as well"),
]
ModelOption = Annotated[str, typer.Option("--model", help="a model: a folder in `models` of its project")]

journal = typer.Typer(help="Show the journal, export it, or restore it from its export.", no_args_is_help=True)
app.add_typer(journal, name="journal")


@journal.command("show")
@prints_records
def show_journal(
    project: ProjectOption,
    start: Annotated[
        date | None,
        typer.Option(
            "--start", parser=as_day, metavar="DAY", help="first day of files; default: all entries, of any kind"
        ),
    ] = None,
    end: Annotated[
        date | None,
        typer.Option(
            parser=as_day, metavar="DAY", help="last day of files, included; only with --start; default: that day"
        ),
    ] = None,
    feed: Annotated[str | None, typer.Option(help="one feed; default: all")] = None,
) -> None:
    """Print entries of the journal, in order; as JSON lines in a pipe, with all that an entry says.

    With --start, only deliveries of these file days, with verdicts and decisions; other records are about run dates.
    """
    from include.io import postgres

    if end and not start:
        raise ActionRequiredError("--end needs --start: give the first day of files too, or neither for all entries")
    days = _interval(start, end) if start else None
    for line in postgres.journal.read_lines(_settings(), load_project(project).name, 0):
        if _concerns(line, days) and feed in (None, line["entry"].get("feed")):
            say(*([json.dumps(line, sort_keys=True)] if prints_json() else entry_words(line)))


def _concerns(line: dict[str, Any], files: Interval | None) -> bool:
    """Return whether an entry is about files of these days; the day of a record is a run date, so it is about none."""
    from include.core.journal import ABOUT_DELIVERIES

    if files is None:
        return True
    day = line["entry"].get("day") if line["kind"] in ABOUT_DELIVERIES else None  # some decisions are about no day
    return day is not None and files.start <= date.fromisoformat(day) <= files.end


@journal.command("restore")
def restore_journal(project: ProjectOption) -> None:
    """Add the exported entries to a database that lacks them; then run range backfills."""
    from include.io.journal import read_journal, restore

    settings, config = _settings(), load_project(project)
    restored = restore(settings, config.name)
    say(f"{restored.added} entries restored")
    if restored.promotions:
        say(
            f"{restored.promotions} promotions and rollbacks by people restored, with the numbers that the versions "
            "had; trainings of the same days, in the same order, make the same numbers"
        )
    if read_journal(settings, config).erased.hashes:
        say(
            "persons were erased, and tables from a backup may have them: before any step, run: "
            f"python -m include.cli erase --project {project} --again"
        )
    if ahead := restored.not_exported:
        say(
            f"the export lacks {len(ahead)} entries, which only the database has: {ahead[0]} to {ahead[-1]}; they "
            f"stay. To export them, run: python -m include.cli journal export --project {project}"
        )


@journal.command("export")
def export_journal(project: ProjectOption) -> None:
    """Write the entries that are not exported yet; steps do the same before they succeed."""
    from include.io.journal import export, require_exported

    settings, name = _settings(), load_project(project).name
    require_exported(settings, name)
    say(f"exported up to entry {export(settings, name)}")


outbox = typer.Typer(help="Show the messages that wait or were given up, or send them.", no_args_is_help=True)
app.add_typer(outbox, name="outbox")


@outbox.command("show")
@prints_records
def show_outbox() -> None:
    """Print the messages that wait and those that were given up, the oldest first; as JSON lines in a pipe."""
    from include.io.postgres.messages import Outbox

    for message in Outbox(_settings().database_url).read_unsent():
        if prints_json():
            say(json.dumps(message, default=str, ensure_ascii=False))
        else:
            say(*message_words(message))


@outbox.command("send")
def send_outbox(
    *,
    given_up: Annotated[
        bool, typer.Option("--given-up", help="also those that were given up in the last seven days")
    ] = False,
    since: Annotated[
        date | None, typer.Option(parser=as_day, metavar="DAY", help="with --given-up: since this day (UTC) instead")
    ] = None,
) -> None:
    """Send the messages that are due, as the DAG `outbox` does; exit code 1 if one was given up."""
    from include.io.outbox import send_due
    from include.io.postgres.messages import Outbox

    settings, start = _settings(), datetime.now(UTC) - timedelta(days=7)
    messages = Outbox(settings.database_url)
    if given_up:
        since_then = datetime.combine(since, time.min, UTC) if since else start
        say(f"{messages.renew(since_then)} messages are tried again")
    addresses = {name: address.get_secret_value() for name, address in settings.destinations.items()}
    found = send_due(messages, addresses.get, seconds=600)
    for line in (f"{len(found.sent)} messages sent", *found.waiting, *found.given_up):
        say(line)
    if found.given_up:
        raise typer.Exit(1)


def _interval(start: date, end: date | None) -> Interval:
    try:
        return Interval(start=start, end=end or start)
    except ValidationError as error:
        raise ActionRequiredError(error.errors()[0]["msg"].removeprefix("Value error, ")) from error


def _settings() -> Settings:
    try:
        return Settings()
    except ValidationError as error:
        missing = ", ".join(f"NIGHTLY_{problem['loc'][0]}".upper() for problem in error.errors())
        raise ActionRequiredError(
            f"these variables are not set: {missing}. For the stack of `make start`, type: . .local/env"
        ) from error
    except SettingsError:
        pass
    # not chained, because the parser's error contains the whole text, which is secret
    raise ActionRequiredError(
        'NIGHTLY_STORAGE_OPTIONS must be JSON, such as {"AWS_REGION": "eu-central-1"}, and so must NIGHTLY_SOURCES, '
        'such as {"shop_db": "postgresql://reader@host/shop"}, and NIGHTLY_DESTINATIONS, such as {"nightly_alerts": '
        '"https://…"}'
    )


def _run(step: str, config: Project | Model, interval: Interval, **options: Any) -> StepResult:
    from include.runner.run import run

    return run(step, config, interval, _settings(), **options)


def _print(record: Record) -> None:
    """Print a record for a person on a terminal, else as JSON."""
    _show(record, as_json=prints_json())


def _show(record: Record, *, as_json: bool) -> None:
    """Print a record for a person, or as JSON."""
    say(*(record.model_dump_json(indent=2).split("\n") if as_json else words(record, terminal_width())))


@app.command()
def migrate() -> None:
    """Migrate the shared database and MLflow's database to this code; running it again changes nothing.

    NIGHTLY_DATABASE_OWNER_URL is the login that owns the shared database, if tasks use another one.
    """
    from include.io import postgres
    from include.io.registry import Registry

    settings = _settings()
    revision = postgres.migrations.migrate(settings.as_owner(), [load_project(name) for name in project_names()])
    Registry(settings).prepare()
    say(f"the shared database is at revision {revision}; MLflow is ready")


@app.command()
@prints_records
def simulate(project: ProjectOption, start: Start, end: End = None) -> None:
    """Deliver example data, as its suppliers would for these run dates."""
    from include.operations.simulate import simulate as simulate

    _print(simulate(load_project(project), _interval(start, end), _settings()))


@app.command()
@prints_records
def land(
    project: ProjectOption,
    start: Start,
    end: End = None,
    *,
    sweep: Annotated[
        bool, typer.Option("--sweep", help="look at all days up to the last one, and wait for no file")
    ] = False,
) -> None:
    """Land the deliveries of these run dates in raw tables."""
    _print(_run("land", load_project(project), _interval(start, end), sweep=sweep))


@app.command()
@prints_records
def extract(project: ProjectOption, start: Start, end: End = None) -> None:
    """Run the queries of feeds that are extracted from databases, and land their rows in raw tables."""
    _print(_run("extract", load_project(project), _interval(start, end)))


@app.command()
@prints_records
def accept(project: ProjectOption, delivery: DeliveryOption, by: By, why: Why) -> None:
    """Let a held or withdrawn delivery count; the next validate checks its rows."""
    from include.operations.decide import accept

    _print(accept(load_project(project), delivery, _settings(), by=by, why=why))


@app.command()
@prints_records
def withdraw(project: ProjectOption, delivery: DeliveryOption, by: By, why: Why) -> None:
    """Let a delivery count no longer, for what is prepared from now on."""
    from include.operations.decide import withdraw

    _print(withdraw(load_project(project), delivery, _settings(), by=by, why=why))


@app.command()
@prints_records
def repair(project: ProjectOption, start: Start, end: End = None, *, by: By, why: Why) -> None:
    """Let prepared days use what is accepted by now, as of the same moment; then build their features again."""
    from include.operations.repair import repair

    _print(repair(load_project(project), _interval(start, end), _settings(), by=by, why=why))


@app.command()
@prints_records
def validate(project: ProjectOption, start: Start, end: End = None) -> None:
    """Check deliveries against their expectations; valid rows become clean, invalid rows go to quarantine."""
    _print(_run("validate", load_project(project), _interval(start, end)))


@app.command()
@prints_records
def revalidate(
    project: ProjectOption,
    start: Start,
    end: End = None,
    feed: Annotated[str | None, typer.Option(help="one feed of the project; default: all")] = None,
) -> None:
    """Validate quarantined rows and refused deliveries of these file days again, after the rule was fixed."""
    _print(_run("revalidate", load_project(project), _interval(start, end), feed=feed))


@app.command("build_features")
@prints_records
def build_features(project: ProjectOption, start: Start, end: End = None, data: Data = "point_in_time") -> None:
    """Build the features of each run date."""
    _print(_run("build_features", load_project(project), _interval(start, end), data_view=data))


@app.command()
def prepare(
    project: ProjectOption, start: Start, end: End = None, data: Data = "point_in_time", *, as_json: AsJson = False
) -> None:
    """Run extract (if a feed has a query), land, validate and build_features in one process."""
    config, interval = load_project(project), _interval(start, end)
    if config.sql_feeds:
        _show(_run("extract", config, interval), as_json=as_json)
    _show(_run("land", config, interval), as_json=as_json)
    _show(_run("validate", config, interval), as_json=as_json)
    _show(_run("build_features", config, interval, data_view=data), as_json=as_json)


@app.command("try_features")
def try_features(
    project: ProjectOption,
    day: Day,
    entity: Annotated[
        list[str], typer.Option(help="its entity_id, or column=value of the feed of entities; may be repeated")
    ],
    horizon: Annotated[
        int, typer.Option(min=0, metavar="N", help="days from the run date to the day that they are about")
    ] = 0,
    rows: Annotated[int, typer.Option(min=1, metavar="N", help="the most rows of each feed")] = 10,
    data: Data = "point_in_time",
) -> None:
    """Show one entity's features of a prepared day, and the rows that they can have come from; builds nothing."""
    from include.operations.try_features import lines
    from include.operations.try_features import try_features as look_up

    found = look_up(load_project(project), day, entity, _settings(), horizon=horizon, rows=rows, data_view=data)
    say(*lines(found, terminal_width()))


@app.command()
@prints_records
def fit(
    model: ModelOption,
    day: Day,
    candidate: Annotated[str | None, typer.Option(help="one candidate of model.yaml; default: all")] = None,
    data: Data = "point_in_time",
) -> None:
    """Fit candidates for a run date; an equal fit is reused."""
    config = load_model(model)
    names = [c.name for c in config.candidates]
    if candidate and candidate not in names:
        raise ActionRequiredError(f"{model} has no candidate {candidate!r}{nearest(candidate, names)}")
    for name in [candidate] if candidate else names:
        _print(_run("fit", config, Interval.of(day), candidate=name, data_view=data))


def _fit_all(config: Model, interval: Interval, data: DataView) -> list[StepResult]:
    return [_run("fit", config, interval, candidate=c.name, data_view=data) for c in config.candidates]


@app.command()
@prints_records
def evaluate(model: ModelOption, day: Day, data: Data = "point_in_time") -> None:
    """Evaluate all candidates of a run date on the validation days; the best one becomes a model version."""
    config, interval = load_model(model), Interval.of(day)
    _print(_run("evaluate", config, interval, fitted=_fit_all(config, interval, data)))


@app.command()
def gate(
    model: ModelOption,
    day: Day,
    data: Data = "point_in_time",
    version: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="an adopted version instead of the day's best fit")
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Check the version of a run date against model.yaml and the champion; exit code 1 if it is rejected."""
    config, interval = load_model(model), Interval.of(day)
    if version is not None:
        from include.operations.adopt_model import read_adopted

        _gate_adopted(config, interval, read_adopted(config, version, _settings()), as_json=as_json)
        return
    fitted = _fit_all(config, interval, data)
    _gate(config, interval, compared=fitted, others=[], as_json=as_json)


def _gate(
    config: Model, interval: Interval, *, compared: list[StepResult], others: list[StepResult], as_json: bool
) -> None:
    """Evaluate fits, and run the gate on the best; `others` are fits that its checks compare it with."""
    evaluated = _run("evaluate", config, interval, fitted=compared)
    decision = _run("gate", config, interval, evaluated=evaluated, fitted=[*compared, *others])
    _show(decision, as_json=as_json)
    if isinstance(decision, GateDecision) and not decision.passed:
        raise typer.Exit(1)


def _gate_adopted(config: Model, interval: Interval, adopted: StepResult, *, as_json: bool) -> None:
    needed = {name for check in config.all_checks for name in check.candidates}
    others = [_run("fit", config, interval, candidate=c.name) for c in config.candidates if c.name in needed]
    _gate(config, interval, compared=[adopted], others=others, as_json=as_json)


@app.command("adopt_model")
def adopt_model(
    model: ModelOption,
    source: Annotated[
        str, typer.Option(help="runs:/<run>/<name> or models:/<name>/<version> in MLflow, or a folder with MLmodel")
    ],
    day: Day,
    by: By,
    why: Annotated[str, typer.Option(help="why, for the journal")],
    trained_until: Annotated[
        date | None,
        typer.Option(
            parser=as_day,
            metavar="DAY",
            help="newest day whose outcomes it was fitted on; default: the day on which it was logged",
        ),
    ] = None,
    trust_pickle: Annotated[
        str | None, typer.Option(metavar="REASON", help="why its pickle may be loaded, once; default: none is loaded")
    ] = None,
    scores: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help="Parquet: rows and what it scored where it was fitted, to compare with"
        ),
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Adopt a scikit-learn model that was fitted elsewhere, and run the gate on it; exit code 1 if it is rejected."""
    config, interval = load_model(model), Interval.of(day)
    about = {"trained_until": trained_until, "trust_pickle": trust_pickle, "scores": scores}
    adopted = _run("adopt_model", config, interval, source=source, by=by, why=why, **about)
    _gate_adopted(config, interval, adopted, as_json=as_json)


@app.command()
@prints_records
def promote(
    model: ModelOption,
    version: Annotated[int, typer.Option(metavar="N", help="the model version that passed the gate")],
    from_day: Annotated[date, typer.Option(parser=as_day, metavar="DAY", help="champion from this day on")],
    by: Annotated[str, typer.Option(help="who decides")],
    why: Annotated[str, typer.Option(help="why, for the promotion history")],
    force: Annotated[bool, typer.Option("--force", help="ignore the gate; the promotion history records it")] = False,
) -> None:
    """Make a version, also an earlier one, the champion from a day on."""
    if by == BY_GATE:
        raise ActionRequiredError(f"--by {BY_GATE!r} is reserved for promotions by the gate; give your own name")
    options = {"version": version, "by": by, "why": why, "force": force}
    _print(_run("promote", load_model(model), Interval.of(from_day), **options))


PendingOption = Annotated[int, typer.Option(min=1, metavar="N", help="the pending version")]


@app.command()
@prints_records
def approve(model: ModelOption, version: PendingOption, by: By, why: Why) -> None:
    """Make a pending version the champion, from the next unpublished day on."""
    from include.operations import approve as deciding

    _print(deciding.approve(load_model(model), version, _settings(), by=by, why=why))


@app.command()
@prints_records
def decline(model: ModelOption, version: PendingOption, by: By, why: Why) -> None:
    """Decline a pending version; the champion stays."""
    from include.operations import approve as deciding

    _print(deciding.decline(load_model(model), version, _settings(), by=by, why=why))


@app.command()
def rollback(
    model: ModelOption,
    to: Annotated[str, typer.Option(help="`previous`, or the number of a version that was the champion")],
    by: Annotated[str, typer.Option(help="who decides")],
    why: Annotated[str, typer.Option(help="why, for the promotion history")],
    from_day: Annotated[
        date | None,
        typer.Option(parser=as_day, metavar="DAY", help="also past days from this day on; default: newest day"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="also to a version that was never the champion")] = False,
) -> None:
    """Make an earlier version the champion again, and let readers see its predictions."""
    from include.operations.rollback import plan_rollback

    found = load_model(model)
    plan = plan_rollback(found, _settings(), to=to, by=by, why=why, from_day=from_day, force=force)
    options = {"to": str(plan.model_version), "by": by, "why": why, "force": force}
    done = cast(RolledBack, _run("rollback", found, plan.interval, **options))
    for day in done.days:
        say(f"{day.day}: {day.state}, instead of version {day.instead_of}")
    say(done.sentence)


def _versions(model: str, interval: Interval, version: int | None) -> dict[date, int]:
    from include.io import postgres

    return postgres.promotions.read_versions(
        _settings(), model, interval, "champion" if version is None else str(version)
    )


@app.command()
@prints_records
def report(
    project: Annotated[str | None, typer.Option(help="a project: the report of a period")] = None,
    period: Annotated[PeriodKind | None, typer.Option(help="with --project: week, month or quarter")] = None,
    day: Annotated[
        date | None, typer.Option("--date", parser=as_day, metavar="DAY", help="with --project: a day of the period")
    ] = None,
    model: Annotated[str | None, typer.Option(help="a model: its training report as PDF, beside the page")] = None,
    version: Annotated[int | None, typer.Option(min=1, metavar="N", help="with --model: the version")] = None,
    *,
    send: Annotated[bool, typer.Option("--send", help="send it to the subscribers of project.yaml, once")] = False,
) -> None:
    """Write the report of a week, month or quarter, or the training report of a version as PDF."""
    if project and period and day and not (model or version):
        run_date = Period.containing(period, day).run_date
        options = {"kinds": (period,), "send": send}
        _print(_run("report_period", load_project(project), Interval.of(run_date), **options))
    elif model and version and not (project or period or day or send):
        from include.operations.print_report import print_report

        say(print_report(load_model(model), version, _settings()))
    else:
        raise ActionRequiredError("give --project, --period and --date, or --model and --version")


@app.command()
@prints_records
def reproduce(
    model: ModelOption,
    version: Annotated[
        int, typer.Option("--version", "--model-version", min=1, metavar="N", help="a version of the registry")
    ],
) -> None:
    """Train a version again on its own rows and compare the scores of both; exit code 1 if they differ."""
    from include.operations.reproduce import reproduce as train_again

    found = train_again(load_model(model), version, _settings())
    _print(found)
    if found.differing:
        raise typer.Exit(1)


@app.command()
@prints_records
def promotions(model: ModelOption) -> None:
    """Print promotions by hand, which no backfill makes again; in a pipe as JSON for `restore_promotions`."""
    from include.io import postgres

    found = postgres.promotions.read_manual_promotions(_settings(), model)
    if prints_json():
        say(postgres.promotions.ROWS.dump_json(found, indent=2).decode())
    else:
        say(*promotion_words(model, found, terminal_width()))


@app.command("restore_promotions")
def restore_promotions(
    model: ModelOption,
    file: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="the output of `promotions`")],
) -> None:
    """Restore promotions by hand, before past days are backfilled; running it again changes nothing."""
    from include.io import postgres

    try:
        rows = postgres.promotions.ROWS.validate_json(file.read_bytes())
    except ValidationError as error:
        raise ActionRequiredError(f"{file} is not the output of `promotions`: {error.errors()[0]['msg']}") from error
    if others := sorted({row.model for row in rows} - {model}):
        raise ActionRequiredError(f"{file} has promotions of {', '.join(others)}, not only of {model}")
    say(f"{postgres.promotions.restore_promotions(_settings(), model, rows)} of {len(rows)} rows written")


@app.command()
@prints_records
def score(
    model: ModelOption, start: Start, end: End = None, version: VersionOption = None, data: Data = "point_in_time"
) -> None:
    """Score all entities of each day with the day's champion."""
    interval = _interval(start, end)
    versions = _versions(model, interval, version)
    _print(_run("score", load_model(model), interval, versions=versions, data_view=data))


@app.command()
@prints_records
def publish(
    model: ModelOption,
    start: Start,
    end: End = None,
    mode: Annotated[PublishMode, typer.Option(help="missing: readers keep what they see")] = "replace",
    version: VersionOption = None,
    data: Data = "point_in_time",
) -> None:
    """Publish the scores of each day, completely or not at all."""
    interval = _interval(start, end)
    versions = _versions(model, interval, version)
    config = load_model(model)
    _print(_run("publish", config, interval, mode=mode, versions=versions, data_view=data))
    if (project := load_project(config.project)).shows_publicly(config.name):
        page = _run("public_page", project, interval)
        if not prints_json():  # a script parses one record, that of publish
            _print(page)


@app.command("public_page")
@prints_records
def public_page(
    project: ProjectOption,
    *,
    move: Annotated[
        bool, typer.Option("--move", help="from now on where NIGHTLY_PUBLIC_PAGES says, or beside the tables")
    ] = False,
) -> None:
    """Write the page for everybody, with what readers see now; an equal page is not written again."""
    config = load_project(project)
    _print(_run("public_page", config, Interval.of(config.day_of(datetime.now(UTC))), move=move))


@app.command()
@prints_records
def shadow(model: ModelOption, start: Start, end: End = None) -> None:
    """Score each day with the version that was its shadow, and store the scores where no reader sees them."""
    from include.steps.shadow import read_shadow_versions

    config, interval = load_model(model), _interval(start, end)
    versions = read_shadow_versions(config, interval, _settings())
    scored = _run("score", config, interval, versions=versions) if versions else None
    _print(_run("shadow", config, interval, days=scored.days if isinstance(scored, Scored) else ()))


@app.command("end_shadow")
@prints_records
def end_shadow(model: ModelOption, day: Day) -> None:
    """Compare the shadow with the champion as of a run date; end it if enough outcomes are known."""
    config, interval = load_model(model), Interval.of(day)
    ended = _run("end_shadow", config, interval)
    _print(ended)
    if isinstance(ended, ShadowEnded) and ended.passed:
        _print(_run("promote", config, interval.shifted(start=1, end=1), version=ended.model_version))


@app.command()
@prints_records
def unpublish(
    model: ModelOption,
    start: Annotated[date, typer.Option("--start", "--day", parser=as_day, metavar="DAY", help="first day")],
    end: End = None,
    since: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%dT%H:%M:%S"],
            metavar="MOMENT",
            help="undo only later publications: UTC, such as 2026-03-01T05:00:00",
        ),
    ] = None,
) -> None:
    """Undo the newest publication of each day: readers see the batch before it, or nothing."""
    moment = since.replace(tzinfo=UTC) if since else None
    _print(_run("unpublish", load_model(model), _interval(start, end), since=moment))


@app.command()
@prints_records
def outcomes(project: ProjectOption, start: Start, end: End = None) -> None:
    """Record the true outcomes that these run dates know."""
    _print(_run("outcomes", load_project(project), _interval(start, end)))


@app.command()
@prints_records
def monitor(project: ProjectOption, start: Start, end: End = None) -> None:
    """Measure published scores and the freshness of tables and scores; raise alerts by the rules."""
    _print(_run("monitor", load_project(project), _interval(start, end)))


@app.command()
@prints_records
def skew(project: ProjectOption, start: Start, end: End = None) -> None:
    """Build rows published the day before each run date again from raw tables, and compare; raise alerts."""
    _print(_run("skew", load_project(project), _interval(start, end)))


@app.command()
def check(project: ProjectOption, start: Start, end: End = None) -> None:
    """Check that features, batches, pointers and promotion history agree; exit code 1 if they do not."""
    from include.operations.check import check as reconcile
    from include.operations.watch import dead_watcher

    interval, settings = _interval(start, end), _settings()
    findings = reconcile(load_project(project), interval, settings)
    if dead := dead_watcher(settings.database_url, datetime.now(UTC)):
        findings.append(dead)
    for finding in findings:
        say(f"✗ {finding}")
    if findings:
        raise typer.Exit(1)
    say(f"✓ {project} {interval}: features, batches, pointers and promotion history agree")


@app.command("check_config")
def check_config(
    project: Annotated[str | None, typer.Option("--project", help="one project; default: all")] = None,
    form: Annotated[
        Literal["text", "github"], typer.Option("--format", help="text, or annotations of a GitHub workflow")
    ] = "text",
) -> None:
    """Say all that is wrong with the files of projects, and try their code on no rows; exit code 1 if something is."""
    from include.operations.check_config import check_config as problems_of
    from include.operations.check_config import unwritten, warnings_of

    names = [project] if project else project_names()
    problems = [problem for name in names for problem in problems_of(name)]
    for problem in (each for name in names for each in unwritten(name)):
        say(problem.text(form, warning=True))
    for problem in problems:
        say(problem.text(form))
    if problems:
        files = len({problem.file for problem in problems})
        say(f"✗ {', '.join(names)}: {len(problems)} problems in {files} files")
        raise typer.Exit(1)
    for warning in (each for name in names for each in warnings_of(load_project(name))):
        say(warning.text(form, warning=True))
    say(f"✓ {', '.join(names)}: the configuration is right, and each outcome, expectation and candidate can be used")


@app.command()
def outdated(project: ProjectOption, start: Start, end: End = None) -> None:
    """List days whose features or scores are out of date, with the commands to run; exit code 1 if there are any."""
    from include.io import postgres
    from include.operations.outdated import find_out_of_date as find
    from include.operations.outdated import rerun_commands

    interval, settings = _interval(start, end), _settings()
    found = find(load_project(project), interval, settings)
    for each in found:
        say(f"✗ {each.day} {each.what}: {each.why}")
    if found:
        if commands := rerun_commands(load_project(project), found):
            say("", "To bring them up to date, run:", *commands)
        raise typer.Exit(1)
    prepared = len(postgres.days.read_prepared_days(settings, project, interval))
    say(f"✓ {project} {interval}: none of {prepared} prepared days is out of date ({len(interval.days)} days checked)")


@app.command()
def plan(
    project: ProjectOption,
    against: Annotated[str, typer.Option(help="a branch, tag or commit to compare the working tree with")] = "main",
    output_format: Annotated[
        Literal["text", "markdown", "costs"],
        typer.Option("--format", help="costs: what steps cost, as JSON for --costs"),
    ] = "text",
    output: Annotated[Path | None, typer.Option(help="a file to write instead of standard output")] = None,
    costs: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="a file of costs, where no database is at hand")
    ] = None,
    *,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="exit code 1 if anything but words changes")] = False,
) -> None:
    """Say what the working tree would change: days, versions, batches, costs and commands. Nothing is changed.

    The shared database is read if NIGHTLY_DATABASE_URL is set; the login of an operator (ops_reader) is enough.
    """
    from include.operations.plan import COSTS, make_plan
    from include.operations.plan_words import as_markdown, text

    found = make_plan(project, against, os.environ.get(DATABASE_URL), costs)
    if output_format == "costs":
        lines = COSTS.dump_json(dict(found.costs), indent=2).decode().split("\n")
    else:
        lines = as_markdown(found) if output_format == "markdown" else text(found)
    if output:
        output.write_text("\n".join([*map(printable, lines), ""]), encoding="utf-8")
    else:
        say(*lines)
    if exit_code and found.has_effect:
        raise typer.Exit(1)


@app.command()
@prints_records
def preflight(
    dag: Annotated[str, typer.Option(help="a DAG with one run per day")],
    start: Start,
    end: End = None,
) -> None:
    """Print what runs of a DAG would wait for and which days are published; `airflow dags backfill` calls it."""
    from include.operations.preflight import preflight as look_ahead

    _print(look_ahead(dag, _interval(start, end), _settings()))


@app.command()
def erase(
    project: ProjectOption,
    identifier: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="a file with one identifier a line, - for standard input; default: asks"),
    ] = None,
    by: Annotated[str, typer.Option(help="who asks for it")] = "",
    why: Annotated[str, typer.Option(help="why, such as a ticket; no name")] = "",
    *,
    again: Annotated[bool, typer.Option("--again", help="everybody who was erased before, as after a restore")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show what would be removed, and change nothing")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="search every place, and change nothing; exit code 1 if something is left")
    ] = False,
    remove_originals: Annotated[
        bool, typer.Option("--remove-originals", help="remove landed files with rows of the person from landing, too")
    ] = False,
    move: Annotated[
        bool, typer.Option("--move", help="the public page is from now on where NIGHTLY_PUBLIC_PAGES says")
    ] = False,
) -> None:
    """Remove a person everywhere, and keep them out. The identifier is asked for: never type it in a command."""
    from include.operations import erase as erasing

    config, settings = load_project(project), _settings()
    plain = [] if again else erasing.read_identifiers(identifier)
    if dry_run or check:
        found = erasing.look(config, settings, plain)
    else:
        options: dict[str, Any] = {"remove_originals": remove_originals, "move": move}
        found = erasing.erase(config, settings, plain, by=by, why=why, **options)
    for sentence in erasing.sentences(found, is_done=not (dry_run or check)):
        say(sentence)
    if check and not found.is_clean:
        raise typer.Exit(1)


app.add_typer(alerts_commands(say))
app.add_typer(incident_commands(_settings, say))
app.add_typer(lineage_commands(_settings, say))
app.add_typer(personal_commands(_settings, say, _print))
app.add_typer(maintain_commands(_settings, say))


@contextmanager
def _in_words() -> Iterator[None]:
    """Print errors that a person has to fix without a traceback."""
    try:
        yield
    except ActionRequiredError as error:
        say(*error.lines, error=True)
        sys.exit(2)


def main() -> None:
    """Run the command line."""
    log_to_stderr("%(asctime)s %(message)s", "%H:%M:%S")
    for noisy in ("py4j", "alembic", "mlflow", "great_expectations"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    with _in_words():
        app()


if __name__ == "__main__":
    main()
