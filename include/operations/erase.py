"""erase: remove a person everywhere, and keep them out.

The entry of the journal comes first: from then on the person is kept out, and no step runs before the erasure is
finished. Where it searches is in `erase_places.py`. Running it again finds what is left.
"""

import sys
from collections.abc import Sequence
from getpass import getpass
from pathlib import Path

from include.core.errors import ActionRequiredError, DataError
from include.core.interval import Interval
from include.core.project import Project
from include.core.settings import Settings
from include.io import postgres
from include.io.exports import export_erased
from include.io.journal import require_exported
from include.operations.erase_places import Erasure, ErasureJob
from include.steps.public_page import public_page, require_public_page

NOT_REACHED = (
    "backups of databases, tables and the journal (after a restore, type erase --again before any step)",
    "older object versions, if the bucket of tables, artifacts, landing, exports or public pages keeps them",
    "what a step on Databricks writes that runs meanwhile (type erase --check when it has ended)",
    "files of a step on Spark that was killed: in the temporary folder of tasks, for two days or more",
    "what analysts and Power BI have read, and what was pulled to laptops",
    "copies of exported files and public pages that others made, and those that are not declared any more",
    "messages that were sent, logs of Airflow and of Databricks clusters (no identifier is written there)",
    "rows of feeds without the identifier that are joined by another key: give that identifier too, if they have one",
    "free text of public columns, and sums, shares and models that were made with the person's rows among others",
)


def look(project: Project, settings: Settings, plain: Sequence[str]) -> Erasure:
    """Search every place for persons, and change nothing.

    Args:
        project: the project.
        settings: places and connections.
        plain: their identifiers; without any, all persons who were erased before.

    Raises:
        LockTimeoutError: the hash key is being rotated.
        ActionRequiredError: a rotation has not finished.
    """
    found = Erasure()
    with postgres.running.without_rotation(settings):
        job = ErasureJob.of(project, settings, plain)
        job.look(found)
        job.look_at_originals(found, remove=False)
    return found


def erase(
    project: Project,
    settings: Settings,
    plain: Sequence[str],
    *,
    by: str,
    why: str,
    remove_originals: bool = False,
    move: bool = False,
) -> Erasure:
    """Remove persons from every place that the product writes; keep the proof, and keep them out from now on.

    Running it again changes nothing, or completes what was interrupted.

    Args:
        project: the project.
        settings: places and connections.
        plain: their identifiers; without any, all persons who were erased before, as after a restore.
        by: who asked for it.
        why: the reason, such as a ticket.
        remove_originals: remove suppliers' files with rows of the persons from landing, if they are landed.
        move: write the public page where the settings say, and from now on there: no step can move it before the
            erasure is finished.

    Raises:
        ActionRequiredError: who or why is missing, the login may not remove predictions, the public page cannot be
            found, or a rotation of the hash key has not finished. Nothing was removed.
        LockTimeoutError: the hash key is being rotated, or a step ran for too long. Nothing was removed.
        DataError: something is left that should have been removed.
    """
    if plain and not (by.strip() and why.strip()):
        raise ActionRequiredError("erase needs who asks and why: --by NAME --why TICKET")
    owner, done = settings.as_owner(), Erasure()
    postgres.erasures.require_owner(owner)
    require_exported(settings, project.name)
    require_public_page(settings, project, move=move, erasing=True)
    with postgres.running.without_rotation(settings), postgres.erasures.alone(settings, project.name):
        job = ErasureJob.of(project, settings, plain)
        done.sequences = job.enter(by=by, why=why)
        if not done.sequences:
            return done
        job.remove(done, owner)
        export_erased(settings, project)
        if project.shown_page:
            public_page(project, Interval.of(project.first_day), settings, move=move)
        job.look_at_originals(done, remove=remove_originals)
        left = Erasure()
        job.look(left)
        done.left, done.advice = left.left, left.advice
        if +left.rows:
            where = ", ".join(f"{place}: {count}" for place, count in sorted(left.rows.items()))
            raise DataError(f"{project.name}: rows of the person are left ({where}). Type the same command again")
        postgres.erasures.finish(owner, project.name, done.sequences)
    return done


def read_identifiers(file: str | None) -> list[str]:
    """Read identifiers from a file, from standard input (`-`), or from a prompt that does not show them.

    Raises:
        ActionRequiredError: there is no such file, or no identifier. It is not repeated, since it could be one.
    """
    if file == "-":
        lines = sys.stdin.read().splitlines()
    elif file:
        try:
            lines = Path(file).read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError):
            raise ActionRequiredError(
                "--identifier needs a file with one identifier a line, or - for standard input, and what was given is "
                "no file that can be read. If it was the identifier itself, remove that line from your shell's history"
            ) from None
    else:
        lines = list(iter(lambda: getpass("identifier (not shown; empty when done): ").strip(), ""))
    if not (found := [*dict.fromkeys(line.strip() for line in lines if line.strip())]):
        raise ActionRequiredError("no identifier was given, so nothing was done")
    return found


def sentences(found: Erasure, *, is_done: bool) -> list[str]:
    """Say what was removed, or what is there, and what is not reached."""
    verb, sign = ("removed", "✓") if is_done else ("there", "✗")
    entries = ", ".join(map(str, found.sequences))
    said = [f"✓ kept out from now on: entry {entries} of the journal"] if found.sequences else []
    said += [f"{sign} {place}: {count} {verb}" for place, count in sorted((+found.rows).items())]
    said += [f"✗ in landing: {uri}: {what}" for uri, what in sorted(found.originals.items())]
    said += [f"✗ left: {text}" for text in found.left]
    if found.is_clean:
        said.append("✓ nothing of these persons was found in any place that is searched")
    said += [f"note: {text}" for text in found.advice]
    return [*said, *(f"not reached: {text}" for text in NOT_REACHED)]
