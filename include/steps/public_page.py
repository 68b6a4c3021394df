"""public_page: write the page for everybody, with the newest predictions that readers see and how good they were.

The page is of what readers see when it is made, not of a run date: after a change of the past, too.
"""

import logging
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from include.config.loading import load_model, model_names
from include.config.model import Model
from include.core.errors import ActionRequiredError, ConfigError, PageGoneError, UnreachableError, nearest
from include.core.exports import exported_columns
from include.core.interval import Interval
from include.core.project import Project
from include.core.public_page import PublicPage
from include.core.records import PublicPageMade
from include.core.settings import Settings
from include.io import postgres
from include.io.postgres.migrations.model_views import columns_of
from include.io.postgres.public_pages import (
    finish_move,
    read_all,
    read_highest,
    read_newest,
    read_place,
    read_types,
    reading_alone,
    record_place,
    was_written,
)
from include.io.public_pages import PublicFolder, digest_of, write_csv, write_parquet
from include.report.public_facts import (
    HISTORY_DAYS,
    Download,
    PublicFacts,
    PublicModel,
    card_sentences,
    cells_of,
    due_after,
    shown_columns,
)
from include.report.public_page import files_named, make_public_page

log = logging.getLogger(__name__)


def public_page(project: Project, interval: Interval, settings: Settings, *, move: bool = False) -> PublicPageMade:
    """Write the page of a project: first the files with rows, then the page, then those of the page before go.

    The same tables give the same bytes, and nothing is written then. Of two that run at once, one waits for the other.

    Args:
        project: the project.
        interval: the run dates after which the page is made, for the record; the page is of what readers see now.
        settings: places, connections and the id of this run.
        move: write it where the settings say, and from now on there, wherever it was before.

    Raises:
        ActionRequiredError: see `find_folder`.
        ConfigError: the project declares no page, or one of models that it has not; or it has an entity fraction.
    """
    declared = project.shown_page
    if declared is None:
        raise ConfigError(f"{project.folder / 'project.yaml'}: it declares no public_page, so there is none to make")
    project.refuse_entity_fraction("public_page")
    models = [load_model(name) for name in models_shown(project, declared)]
    folder = find_folder(settings, project, move=move)
    limit = max(1, declared.rows // max(1, len(models)))
    with reading_alone(settings, project.name) as reading, tempfile.TemporaryDirectory() as temporary:
        # Before the page: a command in a shell then finds nothing there and says so, if this is killed in between.
        before = record_place(settings, project.name, folder.place)
        making = _Making(project, settings, reading, folder, Path(temporary))
        shown = [making.model(model, limit) for model in models]
        content = make_public_page(PublicFacts(project.name, project.title, project.timezone, shown)).encode()
        is_changed = folder.put_page(content)
        folder.remove_others(files_named(shown))
        if before:
            finish_move(settings, project.name)
            log.warning(
                "%s: the public page was in %s before, and is in %s from now on. What is in the old place stays as it "
                "is: remove it",
                *(project.name, before, folder.place),
            )
    log.info("%s: %s %s", project.name, folder.page, "is written" if is_changed else "is as it was")
    return PublicPageMade(
        interval=interval,
        rows=sum(len(each.rows) for each in shown),
        page=folder.page,
        bytes=len(content),
        changed=is_changed,
        shown={each.name: each.batch.day if each.batch else None for each in shown},
    )


def find_folder(settings: Settings, project: Project, *, move: bool = False, erasing: bool = False) -> PublicFolder:
    """Return the folder of the page that people read, also in a shell that does not have the places of tasks.

    Tasks write where their settings say, and the database records it. A person's command uses the recorded place.

    Args:
        settings: places and connections.
        project: the project.
        move: take the place of the settings, whatever is recorded.
        erasing: `erase` asks. No step runs before an erasure is finished, so it has to be told `--move` itself.

    Raises:
        UnreachableError: the place is known and cannot be listed from here. The lines say what, and what to type.
        PageGoneError: the place is known and has no page; the lines are as above.
        ActionRequiredError: the place is not known, or not the one of the settings.
    """
    name, declared = project.name, settings.public_pages
    given = PublicFolder(settings, name, declared or settings.pages_beside_tables)
    if move or (declared and not settings.is_by_hand):
        return given
    again = f"python -m include.cli public_page --project {name}"
    moving = "the same with --move" if erasing else f"{again} --move"
    known = read_place(settings, name)
    if known is None:
        if declared is None and was_written(settings, name):
            raise ActionRequiredError(
                f"{name}: tasks wrote the public page before the database recorded where, and NIGHTLY_PUBLIC_PAGES is "
                "not set. Set it to `public_pages` of the connection nightly_tables. If the connection does not have "
                f"it, type: {moving}"
            )
        return given
    unfinished, move_back = "", ""
    if known.before:
        unfinished = f". Before, it was in {known.before}, and it was not written to the new place yet"
        move_back = (
            ". If it is to stay where it was before, correct `public_pages` of the connection nightly_tables, and type "
            f"{'the same with ' if erasing else ''}NIGHTLY_PUBLIC_PAGES={known.before}{'' if erasing else f' {again}'}"
        )
    if declared is None and known.tables.rstrip("/") != settings.tables.rstrip("/"):
        raise ActionRequiredError(
            f"{name}: the public page was last written to {known.place}, when tables were in {known.tables}, and they "
            f"are in {settings.tables} here. If the page is still there, type the same with "
            f"NIGHTLY_PUBLIC_PAGES={known.place}. If this is a copy of an installation, with a page of its own, type: "
            f"{moving}{unfinished}"
        )
    if declared and given.place not in (known.place, known.before):
        raise ActionRequiredError(
            f"{name}: the public page is in {known.place}, but NIGHTLY_PUBLIC_PAGES is {declared}. Type the same with "
            f"NIGHTLY_PUBLIC_PAGES={known.place}. If the page is to move to {declared}, type: {moving}{unfinished}"
        )
    found = given if declared else PublicFolder(settings, name, known.place)
    try:
        found.require_there()
    except (UnreachableError, PageGoneError) as error:
        here = f"NIGHTLY_PUBLIC_PAGES={found.place}"
        what = (
            f"{name}: the public page was last written to {found.place}, and it is not there as seen from here: "
            f"{error}{unfinished}"
        )
        todo = (
            f"Where tasks run, with what they need to reach that place, type: {'the same' if erasing else again}. If "
            f"somebody removed the page, type: {f'{moving} and {here}' if erasing else f'{here} {moving}'}. If that "
            f"place is gone for good, give another one instead{move_back}"
        )
        raise type(error)([what, todo]) from error
    return found


def require_public_page(
    settings: Settings, project: Project, *, move: bool = False, erasing: bool = False, unreachable_too: bool = True
) -> None:
    """Refuse an operation that takes back what the page shows, if the page cannot be found. Nothing is written.

    Args:
        settings: places and connections.
        project: the project.
        move: see `find_folder`.
        erasing: see `find_folder`.
        unreachable_too: refuse also if the place is known but cannot be reached, or has no page. Otherwise it is said
            in the log: readers of the database must not keep bad scores because of a page.

    Raises:
        ActionRequiredError: see `find_folder`.
    """
    if project.shown_page is None:
        return
    try:
        find_folder(settings, project, move=move, erasing=erasing)
    except ActionRequiredError as error:
        if isinstance(error, UnreachableError | PageGoneError) and not unreachable_too:
            log.warning("%s. The change is made all the same; then the command fails.", error.lines[0])
            return
        raise ActionRequiredError(["Nothing was changed.", *error.lines]) from error


def refresh_public_page(settings: Settings, project: Project) -> None:
    """Write the page again after an operation changed what readers see, if the project has one.

    Raises:
        ActionRequiredError: it could not be written. What readers of the database see is changed all the same, so the
            operation must not be repeated for the page.
    """
    if project.shown_page is None:
        return
    try:
        public_page(project, Interval.of(project.first_day), settings)  # no run date asks for it
    except Exception as error:
        todo = [f"Fix the cause, then run: python -m include.cli public_page --project {project.name}"]
        cause: object = error
        if isinstance(error, UnreachableError | PageGoneError):
            cause, *todo = error.lines
        raise ActionRequiredError([
            f"{project.name}: readers of the database see the change, but the public page is as it was: {cause}",
            "Do not repeat the command.",
            *todo,
        ]) from error


def models_shown(project: Project, declared: PublicPage) -> list[str]:
    """Return the names of the models that the page shows.

    Raises:
        ConfigError: the project has not all of them.
    """
    there = model_names(project.name)
    for name in declared.models:
        if name not in there:
            raise ConfigError(
                f"{project.folder / 'project.yaml'}: public_page.models: there is no model {name!r}"
                f"{nearest(name, there)}"
            )
    return [*(declared.models or there)]


@dataclass(frozen=True)
class _Making:
    """A page that is being made: of what, from where, and where to."""

    project: Project
    settings: Settings
    reading: sa.Connection
    folder: PublicFolder
    temporary: Path

    def model(self, model: Model, limit: int) -> PublicModel:
        """Return what the page says of a model, with at most `limit` rows; its files are written."""
        project, settings, periods = self.project, self.settings, postgres.periods
        view = columns_of(project, model)
        card, limits = card_sentences(_card(model))
        found = PublicModel(
            name=model.name,
            title=model.title,
            purpose=model.purpose,
            metric=model.problem.chosen_by,
            problem_type=model.problem_type,
            meanings=model.problem.performance_metrics,
            card=card,
            limits=limits,
            columns=shown_columns(project, model, view),
            batch=read_newest(self.reading, model.name),
        )
        if found.batch is None:
            return found
        day = found.batch.day
        rows = read_highest(self.reading, model.name, day, [each.name for each in found.columns], limit)
        known = Interval(start=day - timedelta(days=HISTORY_DAYS - 1), end=day)
        found = replace(
            found,
            due=due_after(project, model, day),
            rows=cells_of(found.columns, rows, project.zone),
            published=periods.read_published(settings, model.name, known),
            losses=periods.read_losses(settings, model.name, known),
            metrics=periods.read_metrics(settings, model.name, known),
        )
        names = exported_columns(project, view)
        predictions, about = f"{model.name}-{day}", f"all predictions of {day}"
        files = [
            self._csv(predictions, about, names, read_all(self.reading, model.name, day, names)),
            self._parquet(predictions, f"{about}, with types for programs", model.name, day, names),
            self._csv(f"{model.name}-history", "measures by run date", *_history(found)),
        ]
        return replace(found, files=files)

    def _csv(self, name: str, about: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Download:
        local = self.temporary / f"{name}.csv"
        count = write_csv(local, columns, rows, self.project.zone)
        return self._put(local, f"{about}: {count:,} row{'' if count == 1 else 's'}")

    def _parquet(self, name: str, about: str, model: str, day: date, columns: Sequence[str]) -> Download:
        local = self.temporary / f"{name}.parquet"
        write_parquet(local, read_types(self.settings, model, columns), read_all(self.reading, model, day, columns))
        return self._put(local, about)

    def _put(self, local: Path, about: str) -> Download:
        """Put a file beside the page, named by its content."""
        path, size = f"{local.stem}-{digest_of(local)[:16]}{local.suffix}", local.stat().st_size
        self.folder.put_file(local, path)
        local.unlink()
        return Download(path, local.name, about, size)


def _history(model: PublicModel) -> tuple[list[str], Iterator[list[Any]]]:
    """Return columns and rows of the history: of each published run date its version, its rows and its measures."""
    values = {(each.day, each.metric): each.value for each in model.metrics}
    names = [name for name in model.meanings if any(metric == name for _, metric in values)]
    known = {each.day: each.rows for each in model.metrics}
    rows = (
        [day.day, day.version, day.rows, known.get(day.day), *(values.get((day.day, name)) for name in names)]
        for day in model.published
    )
    return ["day", "model_version", "predictions", "known_outcomes", *names], rows


def _card(model: Model) -> str:
    file = model.folder / "README.md"
    return file.read_text(encoding="utf-8") if file.is_file() else ""
