"""watch: notice what no task can report, because nothing ran.

A process beside Airflow looks every few minutes at the shared database and at Airflow's health: whether predictions are
missing at their deadline, whether Airflow's scheduler works, and whether messages are stuck. It stores its messages in
the outbox and sends what waits there. Late predictions are the same alert that the monitor would raise on the next run
date, so people read it once. If the shared database is down, it says so directly.

The watcher decides by the moment that it is given, and remembers nothing but when the database went down.
"""

import json
import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import sqlalchemy as sa
from pydantic import SecretStr
from sqlalchemy.exc import DBAPIError

from include.config.loading import load_model, load_project, load_routing, model_names, project_names
from include.config.model import Model
from include.core.errors import ActionRequiredError
from include.core.outbox import ALERTS, Message
from include.core.project import Project
from include.core.records import Alert
from include.core.settings import Settings
from include.io import postgres
from include.io.outbox import FIND_ADDRESS, all_at_once, send_directly, send_due
from include.io.postgres.messages import Outbox
from include.monitoring.freshness import FreshnessMonitor, late_alert
from include.steps.monitor import SCOPE, with_causes

log = logging.getLogger(__name__)

RUN_ID = "watcher"
DOWN_FOR = timedelta(minutes=2)
"""How long the shared database may be away before people are notified: a restart takes seconds."""

AGAIN_AFTER = timedelta(hours=12)
"""How often people are notified of one outage of the shared database."""

STUCK_AFTER = timedelta(minutes=30)
SICK_FOR = timedelta(minutes=5)
"""How long Airflow may give no sign of life: a restart of its services takes minutes."""

SEND_SECONDS = 60
PATIENCE = {"connect_timeout": "10", "tcp_user_timeout": "20000", "keepalives_idle": "10"}
"""Parameters of libpq, so that a database that is gone holds no look for long."""

RUNBOOK = "docs/runbooks/watcher.md"

Health = Callable[[], str | None]
"""Returns what is wrong with Airflow's scheduler, in words that are the same as long as it is; None if it works."""


def settings_of(database_url: str) -> Settings:
    """Return settings that have the shared database only: the watcher gets no other secret."""
    url = sa.make_url(database_url)
    if url.get_backend_name() == "postgresql":
        url = url.update_query_dict({name: value for name, value in PATIENCE.items() if name not in url.query})
    text = url.render_as_string(hide_password=False)
    return Settings.model_construct(database_url=SecretStr(text), run_id=RUN_ID)


@dataclass
class Watcher:
    """What is watched, and how people are reached.

    Attributes:
        settings: the shared database.
        find_address: finds the address of a connection.
        memory: a file that says since when the database is down, so that a restarted watcher does not repeat it.
        every: how often it looks.
        projects: those that are watched; empty: all.
        airflow: asks for Airflow's health; None if it is not known where.
    """

    settings: Settings
    find_address: FIND_ADDRESS
    memory: Path
    every: timedelta = timedelta(minutes=2)
    projects: Sequence[str] = ()
    airflow: Health | None = None
    _sick_since: datetime | None = field(default=None, init=False)
    _outage: tuple[datetime, datetime | None] | None = field(default=None, init=False)

    def look(self, now: datetime) -> list[str]:
        """Look once; return a sentence for each thing that is wrong.

        Args:
            now: the moment by which deadlines are decided.
        """
        try:
            found = self._look(now)
        except DBAPIError as error:
            return [self._database_is_down(now, f"does not answer ({type(error.orig).__name__})")]
        except ActionRequiredError as error:  # it is not migrated, or a lock is held for too long
            return [self._database_is_down(now, f"cannot be used: {error}")]
        self._database_is_up(now)
        return found

    def _look(self, now: datetime) -> list[str]:
        outbox = Outbox(self.settings.database_url)
        found = [*self._late(now), *self._sick(now, outbox), *self._stuck(now, outbox)]
        for sentence in found:
            log.warning("%s", sentence)
        sent = send_due(outbox, self.find_address, seconds=SEND_SECONDS)
        for sentence in (*sent.waiting, *sent.given_up):
            log.warning("%s", sentence)
        postgres.watches.record_look(self.settings.database_url, now, self.every, found)
        return found

    # Deadlines

    def _late(self, now: datetime) -> Iterator[str]:
        """Raise the alert of each model whose predictions are missing; yield what is wrong."""
        for name in self.projects or project_names():
            try:
                project = load_project(name)
                late = [alert for model in model_names(name) for alert in self._late_model(project, model, now)]
                if late:  # it is said once, whatever models the incident names
                    effect = f"{late[-1].effect}. {self._newest_step(project)}"
                    late[-1] = late[-1].model_copy(update={"effect": effect})
                alerts = with_causes(project, self.settings, late)
            except ActionRequiredError as error:
                yield f"{name} cannot be watched: {error}"
                continue
            yield from (alert.sentence for alert in alerts)
            postgres.alerts.raise_alerts(self.settings, name, alerts, scope=SCOPE)

    def _late_model(self, project: Project, name: str, now: datetime) -> Iterator[Alert]:
        model = load_model(name)
        if project.entity_fraction < 1:  # nothing of it goes live
            return
        for monitor in model.all_monitors:
            if isinstance(monitor, FreshnessMonitor) and (alert := self._missing(project, model, monitor, now)):
                yield alert

    def _missing(self, project: Project, model: Model, monitor: FreshnessMonitor, now: datetime) -> Alert | None:
        """Return the alert if the predictions of the newest day whose deadline has passed are missing now."""
        day = project.day_of(now)
        if project.at(day, monitor.publish_by) > now:
            day -= timedelta(days=1)
        if not _has_entities(project, day):
            return None
        deadlines = {day: project.at(day, monitor.publish_by)}
        found = postgres.freshness.read_punctuality(self.settings, model.name, deadlines)[day]
        if found.champion is None or found.first_published_at is not None:
            return None  # nothing was due, or readers have them; if they came late, the monitor says so
        prepared = day in postgres.freshness.read_preparations(self.settings, project.name, until=day)
        monitored = model.monitored
        late = monitor.freshness(project, monitored, day + timedelta(days=1), found, prepared=prepared)
        if not late.late:
            return None
        alert = late_alert(monitored, late)
        return alert.model_copy(update={"tier": model.tier, "models": (model.name,)})

    def _newest_step(self, project: Project) -> str:
        newest = postgres.watches.read_newest_step(self.settings.database_url, project.name)
        if newest is None:
            return f"No step of {project.name} ever ended"
        return f"The newest step of {project.name} ended at {newest:%Y-%m-%d %H:%M} UTC"

    # Airflow and the outbox

    def _sick(self, now: datetime, outbox: Outbox) -> Iterator[str]:
        """Store a message if Airflow gives no sign of life for a while; yield what is wrong."""
        wrong = self.airflow() if self.airflow else None
        if wrong is None:
            self._sick_since = None
            return
        self._sick_since = self._sick_since or now
        yield wrong
        if now - self._sick_since >= SICK_FOR:
            text = (
                f"{wrong}. No DAG runs before it works again, so predictions will be late. Safe to start it again: "
                f"yes. Runbook: {RUNBOOK}"
            )
            self._put(outbox, text, "airflow", wrong, now.astimezone(UTC).date())

    def _stuck(self, now: datetime, outbox: Outbox) -> Iterator[str]:
        """Store a message to others if messages to a destination wait for long; yield what is wrong."""
        stuck = postgres.watches.find_stuck(self.settings.database_url, now - STUCK_AFTER)
        silent = {each.destination for each in stuck}
        for each in stuck:
            sentence = (
                f"{each.messages} messages to {each.destination} wait, the oldest since "
                f"{each.since.astimezone(UTC):%Y-%m-%d %H:%M} UTC: {each.last_error or 'nobody has tried to send them'}"
            )
            yield sentence
            text = f"{sentence}. Try: python -m dags.cli alert test --to {each.destination}. Runbook: {RUNBOOK}"
            self._put(outbox, text, "outbox", each.destination, each.oldest, but=silent)

    def _put(self, outbox: Outbox, text: str, subject: str, *parts: object, but: set[str] | None = None) -> None:
        for destination in everybody(self.find_address, but):
            outbox.put(_message(text, subject, *parts, destination=destination))

    # The shared database

    def _database_is_down(self, now: datetime, what: str) -> str:
        """Notify people directly, once for an outage that lasts; return the sentence."""
        sentence = f"the shared database {what}"
        log.warning("%s", sentence)
        since, reported = self._remembered() or (now, None)
        if now - since >= DOWN_FOR and (reported is None or now - reported >= AGAIN_AFTER):
            text = (
                f"{sentence}, since {since.astimezone(UTC):%Y-%m-%d %H:%M} UTC. No step can run, and readers cannot "
                f"read predictions. Safe to start it again: yes. Runbook: {RUNBOOK}"
            )
            if self._send_directly(text, since):
                reported = now
        self._remember(since, reported)
        return sentence

    def _send_directly(self, text: str, since: datetime) -> bool:
        """Send a message to everybody, or, if they cannot be reached, to all others; return whether anybody has it."""
        tried: set[str] = set()
        while destinations := everybody(self.find_address, tried):
            addresses = [(each, self.find_address(each) or "") for each in destinations]
            reached = all_at_once(lambda each: self._reaches(*each, text, since), addresses)
            if any(reached):
                return True
            tried.update(destinations)
        return False

    def _reaches(self, destination: str, address: str, text: str, since: datetime) -> bool:
        message = _message(text, "the shared database", since, destination=destination)
        try:
            attempt = send_directly(address, message)
        except ActionRequiredError as error:
            log.warning("%s", error)
            return False
        if attempt.outcome != "sent":
            log.warning("connection %s: %s", destination, attempt.reason)
        return attempt.outcome == "sent"

    def _database_is_up(self, now: datetime) -> None:
        """Say that the database answers again, to those who know that it did not."""
        since, reported = self._remembered() or (None, None)
        if since is not None and reported is not None:
            outbox = Outbox(self.settings.database_url)
            text = (
                f"The shared database answers again. It did not from {since.astimezone(UTC):%Y-%m-%d %H:%M} to "
                f"{now.astimezone(UTC):%Y-%m-%d %H:%M} UTC. Clear the tasks that failed meanwhile"
            )
            self._put(outbox, text, "the shared database", "again", since)
            send_due(outbox, self.find_address, seconds=SEND_SECONDS)
        self._outage = None
        with suppress(OSError):
            self.memory.unlink(missing_ok=True)

    def _remembered(self) -> tuple[datetime, datetime | None] | None:
        """Return since when the database is down, and when people were notified; None if nothing is remembered."""
        if self._outage:
            return self._outage
        with suppress(OSError, ValueError, KeyError, TypeError):
            found = json.loads(self.memory.read_text(encoding="utf-8"))
            reported = found["reported"]
            return datetime.fromisoformat(found["since"]), datetime.fromisoformat(reported) if reported else None
        return None

    def _remember(self, since: datetime, reported: datetime | None) -> None:
        self._outage = since, reported
        found = {"since": since.isoformat(), "reported": reported.isoformat() if reported else None}
        with suppress(OSError):  # then a watcher that is started again may repeat the message
            self.memory.write_text(json.dumps(found), encoding="utf-8")


def everybody(find_address: FIND_ADDRESS, but: Collection[str] | None = None) -> list[str]:
    """Return who is notified of the installation itself: `nightly_alerts`, or all others if it cannot be used.

    Args:
        find_address: finds the address of a connection.
        but: destinations that cannot be reached.
    """
    out = {*(but or ())}
    if ALERTS not in out and find_address(ALERTS) is not None:
        return [ALERTS]
    routes = [route.to for name in project_names() for route in load_routing(name).routes if route.to != ALERTS]
    return [each for each in dict.fromkeys(routes) if each not in out and find_address(each) is not None]


def _has_entities(project: Project, day: date) -> bool:
    """Return whether the entities' feed has a file for a run date by its calendar; otherwise nothing is predicted."""
    feed = project.feeds[project.entity.feed]
    return any(needed >= project.first_day and feed.has_file_on(needed) for needed in feed.needed_days(day))


def _message(text: str, subject: str, *parts: object, destination: str) -> Message:
    made = Message.of_text(text, subject, *parts, destination, kind="watch", subject=subject, run_id=RUN_ID)
    return made.model_copy(update={"destination": destination})


def airflow_health(url: str) -> Health:
    """Return a function that asks Airflow's API server for the health of the scheduler; it needs no login."""

    def ask() -> str | None:
        import httpx

        try:
            answer = httpx.get(f"{url.rstrip('/')}/api/v2/monitor/health", timeout=10, trust_env=False)
            scheduler = answer.raise_for_status().json()["scheduler"]
            state, beat = scheduler["status"], scheduler["latest_scheduler_heartbeat"]
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError) as error:
            return f"Airflow's API server gives no report about its health ({type(error).__name__})"
        return None if state == "healthy" else f"Airflow's scheduler is {state}; its last heartbeat was {beat}"

    return ask


def dead_watcher(database_url: SecretStr, now: datetime) -> str | None:
    """Return the sentence about a watcher that no longer looks; None if it does, or was never started."""
    found = postgres.watches.read_look(database_url)
    if found is None or not found.is_dead(now):
        return None
    return (
        f"the watcher last looked at {found.looked_at:%Y-%m-%d %H:%M} UTC, so nobody notices a deadline that is missed "
        f"because nothing runs; start it again: {RUNBOOK}"
    )
