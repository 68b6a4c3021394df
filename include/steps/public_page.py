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
from include.core.errors import ActionRequiredError, ConfigError, nearest
from include.core.exports import exported_columns
from include.core.interval import Interval
from include.core.project import Project
from include.core.public_page import PublicPage
from include.core.records import PublicPageMade
from include.core.settings import Settings
from include.io import postgres
from include.io.postgres.migrations.model_views import columns_of
from include.io.postgres.public_pages import read_all, read_highest, read_newest, read_types, reading_alone
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


def public_page(project: Project, interval: Interval, settings: Settings) -> PublicPageMade:
    """Write the page of a project: first the files with rows, then the page, then those of the page before go.

    The same tables give the same bytes, and nothing is written then. Of two that run at once, one waits for the other.

    Args:
        project: the project.
        interval: the run dates after which the page is made, for the record; the page is of what readers see now.
        settings: places, connections and the id of this run.

    Raises:
        ConfigError: the project declares no page, or one of models that it has not; or it has an entity fraction.
    """
    declared = project.shown_page
    if declared is None:
        raise ConfigError(f"{project.folder / 'project.yaml'}: it declares no public_page, so there is none to make")
    project.refuse_entity_fraction("public_page")
    models = [load_model(name) for name in models_shown(project, declared)]
    folder = PublicFolder(settings, project.name)
    limit = max(1, declared.rows // max(1, len(models)))
    with reading_alone(settings, project.name) as reading, tempfile.TemporaryDirectory() as temporary:
        making = _Making(project, settings, reading, folder, Path(temporary))
        shown = [making.model(model, limit) for model in models]
        content = make_public_page(PublicFacts(project.name, project.title, project.timezone, shown)).encode()
        is_changed = folder.put_page(content)
        folder.remove_others(files_named(shown))
    log.info("%s: %s %s", project.name, folder.page, "is written" if is_changed else "is as it was")
    return PublicPageMade(
        interval=interval,
        rows=sum(len(each.rows) for each in shown),
        page=folder.page,
        bytes=len(content),
        changed=is_changed,
        shown={each.name: each.batch.day if each.batch else None for each in shown},
    )


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
        raise ActionRequiredError(
            f"{project.name}: readers of the database see the change, but the public page is as it was: {error}. Do "
            "not repeat the command. Fix the cause, then run: "
            f"python -m include.cli public_page --project {project.name}"
        ) from error


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
