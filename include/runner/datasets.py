"""What a step read and wrote, as named datasets, for whoever collects lineage. Pure: it follows from the step's record.

The names say neither where a table is nor what is in it: no place, no address, no value.
"""

from dataclasses import dataclass

from include.config.model import Model
from include.core.names import clean_table, features_table, quarantine_table, raw_table, scores_table
from include.core.project import Project
from include.core.records import Evaluated, Featured, Fitted, GateDecision, Promotion, Published, Scored, StepResult

NAMESPACE = "nightly-ml"


@dataclass(frozen=True)
class StepDataset:
    """A table, feed or model that a step read or wrote; its version and the written rows, where the record has them."""

    name: str
    version: str | None = None
    rows: int | None = None


@dataclass(frozen=True)
class StepDatasets:
    """What a step read, and what it wrote."""

    inputs: tuple[StepDataset, ...] = ()
    outputs: tuple[StepDataset, ...] = ()


def datasets_of(step: str, config: Project | Model, project: Project, result: StepResult) -> StepDatasets:
    """Return what a step read and wrote; nothing for a step that is not a part of the pipeline.

    Args:
        step: its name.
        config: the project or model that it ran for.
        project: that project, or the model's.
        result: its record.
    """
    if isinstance(config, Model):
        return _of_model(step, config, project, result)
    feeds, name = project.feeds, project.name
    features = StepDataset(features_table(name, project.entity_fraction))
    raw, clean, quarantine = ([StepDataset(make(name, feed)) for feed in feeds] for make in _LAYERS)
    if step in ("land", "extract"):
        taken = [*(project.sql_feeds if step == "extract" else project.file_feeds)]
        return StepDatasets(
            tuple(StepDataset(f"{name}.landing.{feed}") for feed in taken),
            tuple(StepDataset(raw_table(name, feed)) for feed in taken),
        )
    if step in ("validate", "revalidate"):
        return StepDatasets(tuple(raw), (*clean, *quarantine))
    if step == "build_features" and isinstance(result, Featured):
        versions = {table: at for day in result.prepared_days for table, at in day.table_versions.items()}
        read_at = [StepDataset(each.name, _text(versions.get(each.name))) for each in clean]
        return StepDatasets(tuple(read_at), (StepDataset(features.name, str(result.table.version), result.rows),))
    if step == "outcomes":
        outcomes = tuple(StepDataset(f"{name}.outcomes.{each}") for each in project.outcomes)
        read = dict.fromkeys(clean_table(name, each.feed) for each in project.outcomes.values())
        return StepDatasets(tuple(map(StepDataset, read)), outcomes)
    return StepDatasets()


_LAYERS = (raw_table, clean_table, quarantine_table)


def _of_model(step: str, model: Model, project: Project, result: StepResult) -> StepDatasets:
    own, features = f"{model.project}.models.{model.name}", features_table(project.name, project.entity_fraction)
    labels = clean_table(project.name, project.outcomes[model.outcome].feed)
    if isinstance(result, Fitted):
        origin = result.origin
        of_features, of_labels = (origin.features_version, origin.outcome_version) if origin else (None, None)
        inputs = (StepDataset(features, _text(of_features)), StepDataset(labels, _text(of_labels)))
        return StepDatasets(inputs, (StepDataset(f"{own}.fits", result.run_id),))
    if isinstance(result, Evaluated):
        return StepDatasets((StepDataset(f"{own}.fits", result.run_id),), (_version(own, result),))
    if isinstance(result, GateDecision):
        return StepDatasets((_version(own, result),), (StepDataset(f"{own}.gate", result.gate_id),))
    if isinstance(result, Promotion):
        return StepDatasets((_version(own, result),), (StepDataset(f"{own}.champion", _text(result.model_version)),))
    if isinstance(result, Scored) and result.table is not None:
        used = sorted({each.model_version for each in result.days})
        read = (StepDataset(features), *(StepDataset(own, str(number)) for number in used))
        return StepDatasets(read, (StepDataset(result.table.table, _text(result.table_version), result.rows),))
    if isinstance(result, Published):
        predictions = StepDataset(f"{model.project}.predictions.{model.name}", rows=result.rows)
        return StepDatasets((StepDataset(scores_table(model.name)),), (predictions,))
    return StepDatasets()


def _version(own: str, result: StepResult) -> StepDataset:
    return StepDataset(own, _text(result.model_version))


def _text(version: int | None) -> str | None:
    return None if version is None else str(version)
