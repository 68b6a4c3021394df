"""lineage: what a version or a prediction came from, and what was made from a delivery. Nothing is written."""

from datetime import date

from include.config.loading import load_model, load_project, model_names
from include.config.model import Model
from include.core import lineage
from include.core.errors import ActionRequiredError, nearest
from include.core.lineage import DeliveryLineage, History, PredictionLineage, VersionLine, VersionLineage
from include.core.project import Project
from include.core.settings import Settings
from include.io import postgres
from include.io.journal import read_journal
from include.io.postgres import lineage as recorded_lines


def of_version(model: Model, version: int, settings: Settings) -> VersionLineage:
    """Return what a version came from, and what it was used for.

    Raises:
        ActionRequiredError: there is no such version; the message names the newest ones.
    """
    postgres.model_files.read_versions(settings, model.name, [version])  # or say which there are
    lines = {each.model_version: each for each in recorded_lines.read_version_lines(settings, model.name)}
    return lineage.of_version(
        _recorded(load_project(model.project), settings),
        lines[version],
        recorded_lines.read_gate_lines(settings, model.name, version),
        recorded_lines.read_promotion_lines(settings, model.name, version),
        recorded_lines.read_batch_lines(settings, [model.name], version=version),
    )


def of_delivery(project: Project, delivery_id: str, settings: Settings) -> DeliveryLineage:
    """Return what was made from a delivery: prepared days, versions, batches.

    Raises:
        ActionRequiredError: the journal has no such delivery.
    """
    recorded = _recorded(project, settings)
    there = recorded.journal.deliveries["delivery_id"].to_list()
    if delivery_id not in there:
        raise ActionRequiredError(
            f"{project.name} has no delivery {delivery_id!r}{nearest(delivery_id, there)}; list them with: "
            f"python -m include.cli journal show --project {project.name} --start DAY"
        )
    models = model_names(project.name)
    versions: list[VersionLine] = []
    for name in models:
        versions += recorded_lines.read_version_lines(settings, name)
    return lineage.of_delivery(recorded, delivery_id, versions, recorded_lines.read_batch_lines(settings, models))


def of_prediction(model: Model, day: date, entity_id: str | None, settings: Settings) -> PredictionLineage:
    """Return what the published predictions of a day came from.

    Raises:
        ActionRequiredError: nothing is published of that day, or not of that entity.
    """
    batches = recorded_lines.read_batch_lines(settings, [model.name], day=day)
    published = [each for each in batches if each.state == "published"]
    if not published:
        raise ActionRequiredError(
            f"{model.name}: nothing is published of {day}; the view publication_history says what was"
        )
    if entity_id is not None and not recorded_lines.has_entity(settings, published[0].batch_id, day, entity_id):
        raise ActionRequiredError(f"{model.name}: the published batch of {day} has no entity {entity_id!r}")
    names = postgres.model_files.read_names(settings, model.name, [published[0].model_version])
    recorded = _recorded(load_project(model.project), settings)
    return lineage.of_prediction(recorded, published[0], names.get(published[0].model_version), entity_id)


def _recorded(project: Project, settings: Settings) -> History:
    """Return what was recorded about a project."""
    models = [load_model(name) for name in model_names(project.name)]
    journal = read_journal(settings, project)
    return History(
        project=project.name,
        journal=journal,
        entered=recorded_lines.read_entered(settings, project.name),
        latest=recorded_lines.read_latest(settings, project.name),
        outcome_feeds={model.name: project.outcomes[model.outcome].feed for model in models},
    )
