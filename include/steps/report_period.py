"""report_period: write the reports of the week, month or quarter that ended the day before, and send them.

The first run date after a period knows all of it: its last predictions, and the first outcomes of them.
"""

import logging
from collections.abc import Sequence
from datetime import date, datetime

import polars as pl

from include.config.loading import load_model, model_names
from include.config.model import Model
from include.core.errors import DataError
from include.core.interval import Interval
from include.core.journal import Known
from include.core.names import quarantine_table
from include.core.outbox import Message, key_of
from include.core.periods import Period, PeriodKind, Reports, outcome_window
from include.core.project import Project
from include.core.records import DayRecord, PeriodReported, PeriodsReported
from include.core.settings import Settings
from include.core.stack import is_late
from include.io import postgres
from include.io.channels.base import Attachment
from include.io.journal import read_journal
from include.io.pdf import NoPdfError, make_pdf
from include.io.postgres.messages import Outbox
from include.io.report_files import report_path, write_report
from include.io.tables import Scope, Tables
from include.report import period_words as words
from include.report.period_facts import (
    CostDay,
    ModelPeriod,
    PeriodFacts,
    SupplierFound,
    baseline_decision,
    cost_of,
)
from include.report.period_page import make_period_page

log = logging.getLogger(__name__)

MAX_ATTACHED = 8_000_000
"""The most bytes of a PDF that is attached; many mail servers refuse more than 10 MB, which a mail makes of it."""


def report_period(
    project: Project,
    interval: Interval,
    settings: Settings,
    *,
    kinds: Sequence[PeriodKind] | None = None,
    send: bool | None = None,
) -> PeriodsReported:
    """Write the report of each period that ended the day before a run date of the interval.

    The same tables give the same bytes. A message about a period is stored once for each subscriber, with the report as
    it was then; a report that is written again is not sent again.

    Args:
        project: the project.
        interval: the run dates; those that follow no end of a period make nothing.
        settings: places, connections and the id of this run.
        kinds: the kinds of periods; those of project.yaml by default.
        send: whether subscribers get it; by default if the run date was prepared live, so that a backfill sends none.

    Raises:
        DataError: a run date that has to make a report is not prepared.
    """
    declared = project.reports or Reports()
    wanted = declared.periods if kinds is None else kinds
    periods = [each for run_date in interval.days for each in Period.ended_before(run_date, wanted)]
    if not periods:
        return PeriodsReported(interval=interval, rows=0)
    journal = read_journal(settings, project)
    made = [_report(project, declared, period, journal, settings, send) for period in periods]
    return PeriodsReported(interval=interval, rows=len(made), reports=tuple(made))


def _report(
    project: Project, declared: Reports, period: Period, journal: Known, settings: Settings, send: bool | None
) -> PeriodReported:
    record = journal.records.get(period.run_date)
    if record is None:
        raise DataError(
            f"{project.name}: {period.run_date} is not prepared, and its run makes the report of {period.name}. Run: "
            f"python -m include.cli prepare --project {project.name} --start {period.run_date}"
        )
    facts = collect(project, period, journal, record, settings)
    html = make_period_page(facts)
    page = write_report(settings, report_path(project.name, period, "html"), html.encode())
    pdf, stored, why_no_pdf = None, None, None
    try:
        pdf = make_pdf(html)
    except NoPdfError as error:
        why_no_pdf = str(error)
        log.warning("%s %s: %s", project.name, period.name, error)
    else:
        stored = write_report(settings, report_path(project.name, period, "pdf"), pdf)
    is_sent = not record.reconstructed if send is None else send
    to = declared.to if is_sent else ()
    for message in messages_of(facts, declared, to, page, pdf, settings.run_id):
        Outbox(settings.database_url).put(message)
    log.info("%s: report of %s at %s, for %d subscribers", project.name, period.name, stored or page, len(to))
    return PeriodReported(
        period=period.name, page=page, pdf=stored, why_no_pdf=why_no_pdf, subscribers=len(to),
        summary=tuple(words.summary(facts)),
    )  # fmt: skip


def messages_of(
    facts: PeriodFacts, declared: Reports, to: Sequence[str], page: str, pdf: bytes | None, run_id: str
) -> list[Message]:
    """Return the message for each subscriber: three sentences, where the report is, and the PDF.

    Args:
        facts: of the report.
        declared: how the report is linked.
        to: the connections of subscribers.
        page: the URI of the page.
        pdf: the report; None if it could not be made.
        run_id: the run that made it.
    """
    period = facts.period
    path = report_path(facts.project, period, "html" if pdf is None else "pdf")
    place = f"{declared.link.rstrip('/')}/{path}" if declared.link else page
    lines = [f"{facts.title}: {period.title} ({period.days})", *words.short_summary(facts), f"Report: {place}"]
    about = {"kind": "report", "subject": f"{facts.title}, {period.title}", "run_id": run_id}
    message = Message.of_text("\n".join(lines), facts.project, period.kind, period.name, **about)
    payload = {**message.payload, "project": facts.project, "owner": facts.owner, "period": period.name, "page": page}
    if pdf is not None and len(pdf) <= MAX_ATTACHED:
        name = f"{facts.project}-{period.name}.pdf"
        payload |= Attachment(name=name, type="application/pdf", content=pdf).in_payload
    return [
        message.model_copy(update={"key": key_of("report", message.key, each), "destination": each, "payload": payload})
        for each in to
    ]


def collect(project: Project, period: Period, journal: Known, record: DayRecord, settings: Settings) -> PeriodFacts:
    """Return what the run date after a period knows of it."""
    first = min(journal.records)
    due = [day for day in period.days.days if day >= first]
    began = journal.records.get(period.days.start)
    since = began.as_of if began else project.cutoff_at(period.days.start)
    currency = project.prices.currency if project.prices else None
    steps = postgres.periods.read_step_costs(settings, project.name, period.days, currency)
    before = postgres.periods.read_step_costs(settings, project.name, period.before.days, currency)
    costs_before = [each.cost for each in before if each.cost is not None]
    return PeriodFacts(
        project=project.name,
        title=project.title,
        owner=project.owner,
        period=period,
        due=due,
        prepared=[day for day in due if day in journal.records],
        models=[
            _model(project, load_model(name), period, due, (since, record.as_of), settings)
            for name in model_names(project.name)
        ],
        incidents=postgres.periods.read_incidents(settings, project.name, period.days, period.run_date),
        suppliers=_suppliers(project, period, journal.at(record.watermark), settings),
        steps=steps,
        cost_before=sum(costs_before) if costs_before else None,
        currency=currency,
    )


def _model(
    project: Project,
    model: Model,
    period: Period,
    due: Sequence[date],
    moments: tuple[datetime, datetime],
    settings: Settings,
) -> ModelPeriod:
    read, days = postgres.periods, period.days
    delay = (period.run_date - project.feeds[project.outcomes[model.outcome].feed].needed_day(period.run_date)).days
    known, known_before = (outcome_window(each, delay) for each in (period, period.before))
    drifted, watched = read.read_drift(settings, model.name, days)
    problem = model.problem
    return ModelPeriod(
        name=model.name,
        title=model.title,
        metric=problem.chosen_by,
        meanings=problem.performance_metrics,
        unit=None if _has_no_costs(model) else model.costs.unit,
        due=read.read_due_days(settings, model.name, due),
        published=read.read_published(settings, model.name, days),
        window=known,
        losses=read.read_losses(settings, model.name, known),
        losses_before=read.read_losses(settings, model.name, known_before),
        metrics=read.read_metrics(settings, model.name, known),
        metrics_before=read.read_metrics(settings, model.name, known_before),
        costs=_costs(project, model, known, settings),
        costs_before=_costs(project, model, known_before, settings),
        drifted=drifted,
        watched=watched,
        skew=read.read_skew(settings, model.name, days),
        decided=read.read_decided(settings, model.name, days, moments[1]),
        promoted=read.read_promoted(settings, model.name, days),
        people=read.read_people(settings, model.name, *moments),
        retrained=read.read_retrained(settings, model.name, days),
    )


def _has_no_costs(model: Model) -> bool:
    return any(name.startswith("costs") for name in model.unwritten)


def _costs(project: Project, model: Model, known: Interval, settings: Settings) -> list[CostDay]:
    """Return what the predictions whose outcomes became known on these days cost, by run date."""
    if _has_no_costs(model):
        return []
    baselines: dict[int, float | None] = {}
    for version in postgres.periods.read_versions(settings, model.name, known):
        summary = postgres.training_summaries.read_summary(settings, model.name, version)
        constant = summary.constant if summary else None
        baselines[version] = None if constant is None else baseline_decision(model, constant)
    errors = postgres.periods.read_errors(settings, project.name, model.monitored, known, baselines)
    return [cost_of(model.costs, model.classes, each, baselines.get(each.version)) for each in errors]


def _suppliers(project: Project, period: Period, known: Known, settings: Settings) -> list[SupplierFound]:
    """Return punctuality and quality of the deliveries that the run dates of the period waited for, by supplier."""
    found: dict[str, SupplierFound] = {}

    def add(supplier: str, feed: str, **counts: int) -> None:
        before = found.get(supplier) or SupplierFound(supplier, ())
        grown = {name: getattr(before, name) + count for name, count in counts.items()}
        feeds = tuple(sorted({*before.feeds, feed}))
        found[supplier] = SupplierFound(**{**vars(before), **grown, "feeds": feeds})

    for supplier, feed, *counts in postgres.periods.read_punctuality(settings, project.name, period.days):
        add(supplier, feed, **dict(zip(("due", "late", "missing"), counts, strict=True)))
    deliveries, tables = known.deliveries.filter(~is_late()), Tables(settings)
    for feed, declared in project.feeds.items():
        days = period.days
        if not declared.is_snapshot:
            behind = (period.run_date - declared.needed_day(period.run_date)).days
            days = days.shifted(start=-behind, end=-behind)
        of_feed = deliveries.filter((pl.col("feed") == feed) & pl.col("day").is_between(days.start, days.end))
        if of_feed.is_empty():
            continue
        of_days, ids = of_feed["day"].to_list(), of_feed["delivery_id"].to_list()
        rows, failed = postgres.periods.read_quality(settings, project.name, ids)
        held = tables.count([quarantine_table(project.name, feed)], Scope.of_deliveries(of_days, ids), "delivery_id")
        refused = of_feed.filter(pl.col("verdict") == "refused").height
        found_in = {"rows": rows, "quarantined": held.total(), "failed": failed}
        add(declared.supplier or feed, feed, deliveries=of_feed.height, refused=refused, **found_in)
    return [found[name] for name in sorted(found)]
