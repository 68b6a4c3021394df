"""accept and withdraw: the decisions of a person about a delivery, as entries of the journal.

A decision about a file holds for the late rows that came in it, too; they can also be decided on by themselves.
A decision counts for what is recorded after it: days that are prepared already keep what they used.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from include.core.errors import ActionRequiredError, nearest
from include.core.journal import SET_ASIDE, Entry
from include.core.project import Project
from include.core.records import Decided
from include.core.settings import Settings
from include.core.stack import is_late, of_file
from include.io import postgres
from include.io.journal import export, require_exported

log = logging.getLogger(__name__)

DECISIONS = {"accept": "landed", "withdraw": "withdrawn"}
"""The verdict of a delivery after a decision. After `accept`, the next `validate` checks its rows."""


CHANGES = {"accept": SET_ASIDE, "withdraw": ("landed", "accepted", "refused", "held")}
"""The verdicts that a decision changes."""


def accept(project: Project, delivery_id: str, settings: Settings, *, by: str, why: str) -> Decided:
    """Let a held or withdrawn delivery count; the next `validate` gives it a verdict. Doing so again changes nothing.

    Raises:
        ActionRequiredError: there is no such delivery, it is neither held nor withdrawn, or who or why is missing.
    """
    return _decide(project, delivery_id, settings, "accept", by=by, why=why)


def withdraw(project: Project, delivery_id: str, settings: Settings, *, by: str, why: str) -> Decided:
    """Let a delivery count no longer; its rows stay in the raw table. Doing so again changes nothing.

    Raises:
        ActionRequiredError: there is no such delivery, or who or why is missing.
    """
    return _decide(project, delivery_id, settings, "withdraw", by=by, why=why)


@contextmanager
def enter_decision(
    project: Project, settings: Settings, decision: str, *, by: str, why: str
) -> Iterator[postgres.journal.JournalWriter]:
    """Open the journal for the decision of a person, and export it at the end.

    Raises:
        ActionRequiredError: who or why is missing, or the database is behind the export.
    """
    if not by.strip() or not why.strip():
        raise ActionRequiredError(f"{decision} needs who decides and why: --by NAME --why REASON")
    require_exported(settings, project.name)
    with postgres.journal.write_journal(settings, project.name) as journal:
        yield journal
    export(settings, project.name)


def _decide(project: Project, delivery_id: str, settings: Settings, decision: str, *, by: str, why: str) -> Decided:
    with enter_decision(project, settings, decision, by=by, why=why) as writer:
        deliveries = writer.known().deliveries
        found = {row["delivery_id"]: row for row in deliveries.iter_rows(named=True)}
        if delivery_id not in found:
            raise ActionRequiredError(f"{project.name} has no delivery {delivery_id!r}{nearest(delivery_id, found)}")
        delivery = found[delivery_id]
        if decision == "accept" and delivery["verdict"] in ("landed", "accepted"):
            log.info("%s is %s already", delivery_id, delivery["verdict"])
        elif decision == "withdraw" and delivery["verdict"] == "withdrawn":
            log.info("%s is withdrawn already", delivery_id)
        elif decision == "accept" and delivery["verdict"] == "refused":
            raise ActionRequiredError(
                f"{delivery_id} was refused by validation: {delivery['why']}; correct expectations.yaml and run "
                f"revalidate, or let the supplier deliver a correction"
            )
        late = deliveries.filter(is_late(), of_file() == delivery_id)
        concerned = [delivery, *late.iter_rows(named=True)]
        writer.add([
            Entry(
                kind="decision",
                subject=each["delivery_id"],
                entry={
                    "feed": each["feed"],
                    "day": str(each["day"]),
                    "decision": decision,
                    "verdict": DECISIONS[decision],
                },
                by=by,
                why=why,
            )
            for each in concerned
            if each["verdict"] in CHANGES[decision]
        ])
    return Decided(
        delivery_id=delivery_id, feed=delivery["feed"], day=delivery["day"], decision=decision, by=by, why=why
    )
