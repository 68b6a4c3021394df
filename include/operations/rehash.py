"""rehash: hash what is stored by a further key, so that whoever has the old key can compute no hash any more.

A run that was killed anywhere is continued by the next one with the same keys. A commit that changes rows says by which
keys, so that nothing is hashed twice: a hash that was hashed twice looks like one that was not. Until the end, every
step refuses to run.
"""

import json
import logging
import os
import secrets
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from include.config.loading import load_project, model_names, project_names
from include.core import rehash as core
from include.core.errors import ActionRequiredError, ConfigError
from include.core.interval import Interval
from include.core.names import clean_table, features_table, key_mark, quarantine_table, raw_table, scores_table
from include.core.personal import KEY, HashKey
from include.core.project import Project
from include.core.records import Rehashed
from include.core.rehash import Rotation
from include.core.settings import Settings
from include.io import postgres, rewritten
from include.io.journal import export, read_journal, require_exported
from include.io.postgres.hash_keys import RotationState
from include.io.tables import Tables
from include.steps.publish import batch_id

log = logging.getLogger(__name__)

_LAYERS = (raw_table, quarantine_table, clean_table)
"""The layers whose rows are kept."""


def rehash(settings: Settings, *, by: str, why: str) -> Rehashed:
    """Hash the identifiers of all projects by the keys that were added to the hash key.

    Raw, clean and quarantine tables are changed, and the rows of the shared database that have hashes. Features and
    scores are removed, and every day has to be prepared again: `commands` of the result does that. Older versions of
    tables, which have the old hashes, are removed.

    Raises:
        ConfigError: the key does not continue the one that rows are hashed with.
        LockTimeoutError: a step is running.
        ActionRequiredError: a table is of no project or feed that this code knows, or the login is not the owner's.
    """
    if not (by.strip() and why.strip()):
        raise ActionRequiredError("rehash needs who decides and why: --by NAME --why REASON")
    with postgres.hash_keys.rotating(settings):
        key, names = HashKey.of(settings.hash_key.get_secret_value()), _names(settings)
        used = postgres.journal.read_fingerprint(settings)
        if used is None:
            raise ActionRequiredError("no identifier was hashed yet, so there is nothing to rotate: use the new key")
        for name in names:
            require_exported(settings, name)
        if key.fingerprint == used and not _begun(settings):
            for name in names:
                export(settings, name)
            commands = [
                command for project in _known_projects(settings, names) for command in _commands(settings, project)
            ]
            raise ActionRequiredError(
                f"all rows are hashed with these keys already (fingerprint {used}). To rotate, add a new key at the "
                "end of the list: docs/runbooks/hash-key.md. If they were rotated just now, this makes the rest "
                "again:\n" + "\n".join(commands)
            )
        rotation = Rotation(_keys_before(key, used), key)
        projects = _known_projects(settings, names)
        _require_known_tables(settings, projects)
        if any(core.has_hashed_key(project) for project in projects):
            postgres.hash_keys.require_owner(settings)
        return _rehash(settings, projects, rotation, by, why)


def write_new_key(settings: Settings, file: Path) -> str:
    """Write the keys in use and a new one after them into a file of Airflow connections; return their fingerprint.

    Only the owner of the file can read it, so that no key is on a command line or in a log.

    Raises:
        ActionRequiredError: the file exists.
    """
    keys = HashKey.of(settings.hash_key.get_secret_value()).continued(secrets.token_hex(32))
    content = {"nightly_hash_key": {"conn_type": "generic", "password": keys.text}}
    try:
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as opened:
            opened.write(json.dumps(content))
    except FileExistsError:
        raise ActionRequiredError(f"{file} exists: name a new file") from None
    return keys.fingerprint


def _rehash(settings: Settings, projects: Sequence[Project], rotation: Rotation, by: str, why: str) -> Rehashed:
    before, after = rotation.before.fingerprint, rotation.after.fingerprint
    names, tables = [project.name for project in projects], Tables(settings)
    _begin(settings, names, RotationState("begun", before, after), by, why)
    hashed, removed = list[str](), list[str]()
    for project in projects:
        hashed += _hash_tables(project, tables, rotation)
    for project in projects:
        removed += _remove_derived(settings, project, tables)
        for table in _kept_tables(project, tables):
            rewritten.forget(settings, tables, table)
            log.info("%s: older versions are removed", table)
    batches = postgres.hash_keys.finish(
        settings, projects, rotation.hashed, batch_id, RotationState("finished", before, after), by, why
    )
    for name in names:
        export(settings, name)
    return Rehashed(
        before=before,
        after=after,
        hashed=tuple(hashed),
        removed=tuple(removed),
        batches=batches,
        commands=tuple(command for project in projects for command in _commands(settings, project)),
        by=by,
        why=why,
    )


def _names(settings: Settings) -> list[str]:
    """Return the projects with deliveries; also one of which a run that was killed left rows without an entry."""
    there = rewritten.names_of(settings, Tables(settings))
    landed = [name for name in project_names() if any(table.startswith(raw_table(name, "")) for table in there)]
    return sorted({*postgres.hash_keys.read_projects(settings), *landed})


def _begun(settings: Settings) -> list[RotationState]:
    return [found for found in postgres.hash_keys.read_rotations(settings).values() if found.state == "begun"]


def _keys_before(key: HashKey, used: str) -> HashKey:
    """Return the keys that rows were hashed with before.

    Raises:
        ConfigError: `key` does not continue them.
    """
    before = key.until(used)
    if before is None:
        raise ConfigError(
            f"{KEY} does not begin with the keys that rows are hashed with (fingerprint {used}). It is a JSON list: "
            "the key of before, or all keys of the list of before, and then the new one. Nothing was changed: "
            "docs/runbooks/hash-key.md"
        )
    return before


def _begin(settings: Settings, names: Sequence[str], begun: RotationState, by: str, why: str) -> None:
    """Enter that the rotation was begun, unless one with the same keys was and is now continued.

    Raises:
        ConfigError: one with other keys was begun.
    """
    rotations = postgres.hash_keys.read_rotations(settings)
    others = {found.after for found in rotations.values() if found.state == "begun" and found.after != begun.after}
    if others:
        raise ConfigError(
            f"a rotation of the hash key to fingerprint {', '.join(sorted(others))} was begun and has not finished; "
            f"finish it with those keys first. These have fingerprint {begun.after}. Nothing was changed"
        )
    new = [name for name in names if rotations.get(name) != begun]
    postgres.hash_keys.begin(settings, new, begun, by, why)
    for name in names:
        export(settings, name)


def _known_projects(settings: Settings, names: Sequence[str]) -> list[Project]:
    """Load the projects that have deliveries."""
    if unknown := sorted(set(names) - set(project_names())):
        raise ActionRequiredError(
            f"the journal has deliveries of {', '.join(unknown)}, which are no projects of this code "
            "(NIGHTLY_PROJECTS), so it is not known which of their columns are hashed. Put the projects "
            "back. Nothing was changed"
        )
    return [load_project(name) for name in names]


def _require_known_tables(settings: Settings, projects: Sequence[Project]) -> None:
    """Refuse to leave a table with old hashes behind, because nobody declares its columns any more."""
    of_feeds = {
        name(project.name, feed)
        for project in projects
        for feed in project.feeds
        for name in (raw_table, clean_table, quarantine_table)
    }
    layers = tuple(
        name(project.name, "") for project in projects for name in (raw_table, clean_table, quarantine_table)
    )
    there = rewritten.names_of(settings, Tables(settings))
    if unknown := [name for name in there if name.startswith(layers) and name not in of_feeds]:
        raise ActionRequiredError(
            f"no project declares the feeds of these tables any more, so it is not known which of their columns are "
            f"hashed: {', '.join(unknown)}. Declare the feeds again, or move the tables away. Nothing was changed"
        )


def _hash_tables(project: Project, tables: Tables, rotation: Rotation) -> list[str]:
    """Hash the rows of raw, quarantine and clean tables; return the tables that were changed."""
    mark, changed = key_mark(rotation.after.fingerprint), []
    for name, feed in project.feeds.items():
        stored = partial(rotation.raw, feed)
        typed = partial(core.clean, project, feed, hashed=rotation.hashed)
        for table, change in (
            (raw_table(project.name, name), stored),
            (quarantine_table(project.name, name), stored),
            (clean_table(project.name, name), typed),
        ):
            if tables.exists(table) and rewritten.rewrite(tables, table, change, mark):
                changed.append(table)
                log.info("%s: identifiers are hashed by the new key", table)
    return changed


def _kept_tables(project: Project, tables: Tables) -> list[str]:
    names = [name(project.name, feed) for feed in project.feeds for name in _LAYERS]
    return [name for name in names if tables.exists(name)]


def _remove_derived(settings: Settings, project: Project, tables: Tables) -> list[str]:
    """Remove what is made again from raw tables: only the project's own code knows what its features made of hashes."""
    features, models = features_table(project.name), model_names(project.name)
    scores = {scores_table(model, view) for model in models for view in ("point_in_time", "latest")}
    there = rewritten.names_of(settings, tables)
    derived = [name for name in there if name in {features, *scores} or name.startswith(f"{features}_fraction_")]
    return [name for name in derived if rewritten.remove(settings, tables, name)]


def _commands(settings: Settings, project: Project) -> list[str]:
    """Return what prepares the days again that were prepared, and trains the models again."""
    records = read_journal(settings, project).records
    if not records:
        return []
    days = Interval(start=min(records), end=max(records))
    conf = f'\'{{"start": "{days.start}", "end": "{days.end}"}}\''
    return [
        f"airflow dags trigger {project.name}_backfill_range --run-id after-rehash --conf {conf}",
        *(f"airflow dags backfill {model}_train -s {days.end} -e {days.end} -y" for model in model_names(project.name)),
    ]
