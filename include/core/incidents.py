"""Incidents: one cause, from the first run date on which it was seen to the one on which it is gone. Pure.

`io/postgres/incidents.py` keeps them and writes their messages into the outbox; docs/alerts.md says what people see.
Here is what decides: how run dates make an incident, what is news, and the text of a message (`message_of`).
"""

import hashlib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Literal

from include.core.base import Record, Sentence
from include.core.outbox import Message
from include.core.records import Alert
from include.core.routes import SEVERITIES, Severity

Tier = Literal[1, 2, 3]

Seen = Literal["seen", "gone", "clear"]
"""What a run date knows of a cause. `gone`: it was there, and a later look on the same run date found it gone."""

EventKind = Literal["opened", "updated", "reopened", "recovered", "acknowledged", "snoozed", "closed"]
SENT = frozenset({"opened", "updated", "reopened", "recovered"})
"""The events that people on call are sent."""

REOPEN_DAYS = 3
"""A cause that is back within so many days is the same incident, so that one that comes and goes is one story."""

WORSE = 1.5
"""An update is sent when an incident is so many times as bad as in the last message about it."""

SCORES_LATE = "scores_late"
FEED_LATE = "feed_late"
NOT_PREPARED = "not_prepared"
TASK_FAILED = "task_failed"
RUN_FAILED = "run_failed"

ANNOUNCED = ("budget_", "columns_changed", "drift", "libraries_changed")
"""What rules begin with that say something once, when it begins: a run date without it does not mean that it is over,
so nobody is sent that. What a further run date says is news again, until somebody acknowledges it."""

FOUND_LATE = ("skew",)
"""What rules begin with that look at earlier run dates again: people are told of what they find, also if it is over."""

PROJECT = ""
"""Stands for the monitors of the project itself among those that looked, or did not; the others are of a model."""

LISTED_DAYS = 7
"""Missing days that a message names."""

NO_EFFECT = "scores are published as always"
"""What readers see if an alert says nothing about them."""

_TAIL = re.compile(
    r"\s*(?:Owner: (?P<owner>(?:(?!Owner: ).)+)\.)?\s*Runbook: (?P<runbook>docs/[\w./-]+\.md)\.?\s*$", re.DOTALL
)


def severity_of(tier: int, *, affects_readers: bool) -> Severity:
    """Return the severity of what happens to a model of this tier; one step lower if readers do not notice it."""
    return SEVERITIES[min(tier - 1 + (not affects_readers), len(SEVERITIES) - 1)]


def is_above(severity: Severity, other: Severity) -> bool:
    """Return whether a severity is higher than another."""
    return SEVERITIES.index(severity) < SEVERITIES.index(other)


def cause_key(rule: str, subject: str, occurrence: str = "") -> str:
    """Return the key of a cause. It is a digest, since a subject can name a person, who can be erased from it."""
    return hashlib.sha256(json.dumps([rule, subject, occurrence]).encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Details:
    """What an incident says.

    Attributes:
        rule: the kind of cause.
        subject: the model, feed or task that it is about.
        severity: how much it matters.
        what: what happened, in a sentence.
        effect: what readers see.
        command: what to type when the cause is fixed; empty if the runbook decides.
        runbook: the page; empty without one.
        owner: who owns it; empty if nobody is named.
        models: the models that it affects.
        badness: how bad it is, a number that grows; None if it is not measured.
        more: further lines, such as where the log is.
        occurrence: the run date of a failed task; empty for what is seen on many run dates.
    """

    rule: str
    subject: str
    severity: Severity
    what: str
    effect: str
    command: str = ""
    runbook: str = ""
    owner: str = ""
    models: tuple[str, ...] = ()
    badness: float | None = None
    more: tuple[str, ...] = ()
    occurrence: str = ""

    @property
    def cause(self) -> str:
        """The key of the cause."""
        return cause_key(self.rule, self.subject, self.occurrence)

    def is_hidden_from(self, blind: Collection[str]) -> bool:
        """Return whether the cause may be there although nobody saw it, because these monitors did not look.

        What models have in common, such as a late feed, is seen by the monitors of any of them.
        """
        own = self.subject if self.subject in self.models else PROJECT
        return own in blind if self.subject in self.models or not self.models else bool(blind)


@dataclass(frozen=True)
class Episode:
    """The run dates of one incident: first and last seen, and the first after that on which the cause is gone."""

    first_day: date
    last_day: date
    recovered_day: date | None = None

    @property
    def end(self) -> date:
        """The last run date that belongs to it."""
        return self.recovered_day or self.last_day

    def overlaps(self, first_day: date, end: date) -> bool:
        """Return whether it shares a run date with these."""
        return self.first_day <= end and first_day <= self.end


@dataclass(frozen=True)
class Incident:
    """An incident as it is stored. `id` is None for one that the shared database could not take."""

    id: int | None
    project: str
    details: Details
    first_day: date
    last_day: date
    recovered_day: date | None = None
    opened_at: datetime | None = None
    recovered_at: datetime | None = None
    acknowledged_by: str | None = None
    snoozed_until: datetime | None = None
    snoozed_severity: Severity | None = None
    sent_severity: Severity | None = None
    sent_badness: float | None = None

    @property
    def end(self) -> date:
        """The last run date that belongs to it."""
        return self.recovered_day or self.last_day

    def is_snoozed(self, now: datetime) -> bool:
        """Return whether nothing is to be sent now, because its severity has not risen since it was snoozed."""
        if self.snoozed_until is None or now >= self.snoozed_until:
            return False
        return not (self.snoozed_severity and is_above(self.details.severity, self.snoozed_severity))


class Failure(Record):
    """A failed task or run, with what its incident says.

    Attributes:
        project: the project; empty for a DAG of the bundle.
        model: the model; None for a DAG of a project.
        dag_id, task_id, run_id: where it failed; `task_id` is empty for a run that failed as a whole.
        map_index, try_number: which of several, and which try.
        day: the run date or the range, as text; empty without one.
        what: what happened, in a sentence.
        effect: what readers see; empty if they do not notice it.
        tier: the highest tier of the models that it affects.
        models: those models.
        command, runbook, owner, more: as in `Details`.
        is_effect: it only waited for what another DAG did not make.
        follows_task: a run that failed because of a task: without another report of that task, it was killed.
        started_at: when the run started; failures before that are those of an earlier try of the run.
        done_by: the step whose success for the run date shows that it was made good; None if no step does.
        late_feed: the feed that the run date waited for in vain; empty for any other failure.
    """

    project: str
    model: str | None = None
    dag_id: str
    task_id: str = ""
    run_id: str
    map_index: int = -1
    try_number: int = 0
    day: str = ""
    what: Sentence
    effect: Sentence = ""
    tier: Tier = 2
    models: tuple[str, ...] = ()
    command: Sentence = ""
    runbook: str = ""
    owner: str = ""
    more: tuple[Sentence, ...] = ()
    is_effect: bool = False
    follows_task: bool = False
    started_at: datetime | None = None
    done_by: str | None = None
    late_feed: str = ""

    @property
    def details(self) -> Details:
        """What the incident says. A day that is not prepared is one cause, whoever waits for it."""
        if self.late_feed:
            rule, subject = FEED_LATE, self.late_feed
        elif self.is_effect or self.dag_id == f"{self.project}_prepare":
            rule, subject = NOT_PREPARED, self.project
        else:
            rule = TASK_FAILED if self.task_id else RUN_FAILED
            subject = f"{self.dag_id}.{self.task_id}" if self.task_id else self.dag_id
        return Details(
            rule=rule,
            subject=subject,
            severity=severity_of(self.tier, affects_readers=bool(self.effect)),
            what=self.what,
            effect=self.effect or NO_EFFECT,
            command=self.command,
            runbook=self.runbook,
            owner=self.owner,
            models=self.models,
            more=self.more,
            occurrence=self.day or self.run_id,
        )


def details_of(alert: Alert) -> Details:
    """Return what the incident of an alert says. Owner and runbook may stand at the end of its sentence."""
    found = _TAIL.search(alert.sentence)
    what = alert.sentence[: found.start()] if found else alert.sentence
    details = Details(
        rule=alert.rule,
        subject=alert.subject,
        severity=severity_of(alert.tier, affects_readers=bool(alert.effect)),
        what=what,
        effect=alert.effect or NO_EFFECT,
        command=alert.command,
        runbook=alert.runbook or (found["runbook"] if found else ""),
        owner=(found["owner"] or "") if found else "",
        models=alert.models,
        badness=alert.badness,
    )
    if alert.faulty:
        return replace(details, subject=alert.faulty, what=alert.because)
    if not alert.late_feed:
        return details
    page = "docs/runbooks/alert-scores-late.md"
    return replace(
        details, rule=FEED_LATE, subject=alert.late_feed, what=alert.because, owner="", command="", runbook=page
    )


def which_is_late(feeds: str) -> str:
    """Return that a feed is late, or one of several with commas between them."""
    return f"at least one of the feeds {feeds} is late" if ", " in feeds else f"feed {feeds} is late"


def late_words(feed: str, days: Sequence[date]) -> str:
    """Return which run dates wait for a feed."""
    if len(days) == 1:
        return f"feed {feed} is late: run date {days[0]} is not prepared without it"
    listed = ", ".join(map(str, days[:LISTED_DAYS])) + f" and {len(days) - LISTED_DAYS} more" * (
        len(days) > LISTED_DAYS
    )
    return f"feed {feed} is late since run date {days[0]}; days missing: {listed}"


def merge_causes(alerts: list[Alert]) -> dict[str, Details]:
    """Map the key of each cause to what its incident says: what one feed does to several models is one cause."""
    found: dict[str, Details] = {}
    effects: dict[str, list[str]] = {}
    for alert in alerts:
        details = details_of(alert)
        before = found.get(details.cause)
        of_cause = effects.setdefault(details.cause, [])
        if details.effect not in of_cause:
            of_cause.append(details.effect)
        if before and (alert.late_feed or alert.faulty):
            details = replace(
                details,
                what=before.what,
                effect="; ".join([each for each in of_cause if each != NO_EFFECT] or of_cause),
                owner=before.owner if details.owner == before.owner else "",
                models=tuple(dict.fromkeys([*before.models, *details.models])),
                severity=min(before.severity, details.severity, key=SEVERITIES.index),
            )
        found[details.cause] = details
    return found


def episodes(days: Mapping[date, Seen]) -> list[Episode]:
    """Return the incidents of one cause, the oldest first, from what each run date that looked knows of it.

    It depends on nothing but that, so that runs and backfills in any order end the same.
    """
    found: list[Episode] = []
    for day in sorted(days):
        newest = found[-1] if found else None
        if days[day] == "clear":
            if newest and newest.recovered_day is None:
                found[-1] = replace(newest, recovered_day=day)
            continue
        is_back = newest and newest.recovered_day and day - newest.recovered_day <= timedelta(days=REOPEN_DAYS)
        if newest and (newest.recovered_day is None or is_back):
            found[-1] = Episode(newest.first_day, day)
        else:
            found.append(Episode(day, day))
        if days[day] == "gone":
            found[-1] = replace(found[-1], recovered_day=day)
    return found


def news(before: Incident | None, after: Incident, now: datetime) -> tuple[EventKind | None, bool]:
    """Return what happened to the newest incident of a cause, None if nothing did; and whether it is sent.

    An update is for what is clearly worse: its severity rose, or it is `WORSE` times as bad as when it was last sent.
    A person who has acknowledged it is not told that it is worse, only that its severity rose. When a snooze has ended,
    one update says that the incident is still there.
    """
    is_open, is_news = after.recovered_day is None, after.details.rule.startswith(ANNOUNCED)
    is_told = is_open or is_news or after.details.rule.startswith(FOUND_LATE)
    sent = not after.is_snoozed(now)
    if before is None:
        return ("opened", sent) if is_told else (None, False)
    is_later = after.last_day > before.last_day
    if before.recovered_day is not None:
        return ("reopened", sent) if is_open or (is_told and is_later) else (None, False)
    if not is_open:
        return "recovered", before.sent_severity is not None and not before.is_snoozed(now) and not is_news
    rose = before.sent_severity is not None and is_above(after.details.severity, before.sent_severity)
    bad, told = after.details.badness, before.sent_badness
    is_worse = bad is not None and told is not None and bad >= WORSE * told and not after.acknowledged_by
    has_woken = after.snoozed_until is not None and now >= after.snoozed_until
    is_again = is_news and is_later and not after.acknowledged_by
    if sent and (rose or is_worse or has_woken or is_again):
        return "updated", True
    return None, False


def message_of(incident: Incident, event: EventKind, *, run_id: str, number: object, why: str = "") -> Message:
    """Return the message that says what happened to an incident: the only place that makes one.

    Args:
        incident: the incident after it.
        event: what happened.
        run_id: the Airflow run that noticed it.
        number: tells the messages about one incident apart, for good.
        why: why an update is sent.
    """
    details = incident.details
    kind = details.rule if details.rule in (TASK_FAILED, RUN_FAILED) else "alerts"
    if details.rule == NOT_PREPARED:
        kind = TASK_FAILED
    return Message.of_text(
        text_of(incident, event, why),
        *("incident", incident.project, incident.id, event, number),
        kind="recovered" if event == "recovered" else kind,
        subject=details.subject,
        run_id=run_id,
    )


def text_of(incident: Incident, event: EventKind, why: str = "") -> str:
    """Return the text of a message about an incident, short enough for a phone."""
    details = incident.details
    if event == "recovered":
        return "\n".join([f"[recovered] {_name(details)}", lasted(incident), *_number(incident, acknowledge=False)])
    marks = {"reopened": ", back again", "updated": f", {why or 'worse'}"}
    is_news, is_open = details.rule.startswith(ANNOUNCED), incident.recovered_day is None
    if is_news and not why:
        marks |= dict.fromkeys(marks, ", again")
    over = "" if is_open or is_news else f"; gone on {incident.recovered_day}, it was found late"
    command = [details.command] if details.command else []
    return "\n".join([
        f"[{details.severity}{marks.get(event, '')}] {details.what}",
        f"Since: run date {incident.first_day}{over}",
        f"Readers: {details.effect}",
        "Safe to run again: yes" + (". When the cause is fixed, type:" if command else ""),
        *command,
        *details.more,
        *([f"Owner: {details.owner}"] if details.owner else []),
        *([f"Runbook: {details.runbook}"] if details.runbook else []),
        *_number(incident, acknowledge=is_open),
    ])


def lasted(incident: Incident) -> str:
    """Return how long an incident lasted, in a sentence."""
    if incident.details.occurrence:
        if incident.opened_at is None or incident.recovered_at is None:
            return "It is made good."
        return f"It is made good, after {duration(incident.recovered_at - incident.opened_at)}."
    days = (incident.last_day - incident.first_day).days + 1
    seen = f"{incident.first_day}" if days == 1 else f"{incident.first_day} to {incident.last_day}"
    return f"It was seen on {seen} ({days} run date{'s' * (days > 1)}), and is gone on {incident.recovered_day}."


def duration(time: timedelta) -> str:
    """Return a time in words, such as `2 h 5 min`."""
    minutes = max(int(time.total_seconds()) // 60, 0)
    if minutes >= 48 * 60:
        return f"{minutes // (24 * 60)} days"
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


def _name(details: Details) -> str:
    if details.rule == NOT_PREPARED:
        return f"{details.occurrence} of {details.subject} is not prepared"
    if details.rule in (TASK_FAILED, RUN_FAILED):
        return f"{details.subject} failed for {details.occurrence}"
    if details.rule == FEED_LATE:
        return which_is_late(details.subject)
    return f"{details.subject}: {details.rule}"


def _number(incident: Incident, *, acknowledge: bool) -> list[str]:
    if incident.id is None:
        return []
    name = f"Incident {incident.id}" + (f" of {incident.project}" if incident.project else "")
    how = f". To acknowledge: python -m include.cli acknowledge --incident {incident.id} --by … --why …"
    return [name + how * acknowledge]
