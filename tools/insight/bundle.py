"""What the notebook's process gets of a version: a folder with its files, its rows and what the gate decided.

Only the columns that the version reads, the slices and the outcomes are in it: no entity, and no other column.
"""

import json
from datetime import date
from pathlib import Path

import polars as pl

from include.config.loading import load_model, load_project
from include.config.model import Model
from include.core.errors import ActionRequiredError
from include.core.feeds import HORIZON
from include.core.interval import Interval
from include.core.records import GateDecision
from include.core.settings import Settings
from include.io import postgres
from include.io.registry import ModelFiles, Registry
from include.io.registry.models import LoggedModel, load_files
from include.io.report_subjects import read_subject
from include.report.fairness import slice_columns
from include.report.subject import ReportedVersion, ReportSubject
from include.training.training_set import LABEL

PERIODS = ("fit", "validation", "holdout")
TAGS = ("adopted_from",)
"""The tags of the version's run that a report needs."""


def write_bundle(model: Model, settings: Settings, folder: Path) -> bool:
    """Write the champion of a model into a new folder; return False, and write nothing, if it has none.

    Raises:
        ActionRequiredError: the gate has decided nothing about that version.
    """
    version = postgres.promotions.read_newest_champion(settings, model.name)
    if version is None:
        return False
    decided = postgres.gate_decisions.read_decisions(settings, model.name, version)
    if not decided:
        raise ActionRequiredError(
            f"{model.name}: the gate has not looked at version {version}, so there are no holdout days. Run the gate "
            f"on it: python -m include.cli gate --model {model.name} --version {version} --day DAY"
        )
    decision, registry = decided[0][0].model_copy(update={"champion": None}), Registry(settings)
    found = registry.get_version(model.name, version)
    subject = read_subject(model, decision.interval, settings, registry, found, decision)
    recorded = postgres.model_files.read_versions(settings, model.name, [version])[version]
    for name, content in registry.files(found, recorded.model_digest).contents.items():
        target = folder / "files" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    kept = {*subject.challenger.inputs, *slice_columns(subject), "day", HORIZON, LABEL}
    subject.holdout_rows.select(pl.col(sorted(kept))).write_parquet(folder / "holdout.parquet")
    subject.fitted_rows.select(pl.col(sorted(subject.challenger.inputs))).write_parquet(folder / "fitted.parquet")
    pl.DataFrame({LABEL: subject.fitted_truth}).write_parquet(folder / "fitted_truth.parquet")
    about = {
        "decision": decision.model_dump(mode="json"),
        "periods": {name: getattr(subject, name).model_dump(mode="json") for name in PERIODS},
        "tags": {name: subject.challenger.tags[name] for name in TAGS if name in subject.challenger.tags},
        "missing_days": [str(day) for day in subject.missing_days],
    }
    (folder / "about.json").write_text(json.dumps(about), encoding="utf-8")
    return True


def read_bundle(name: str, folder: Path) -> ReportSubject:
    """Return the champion of a model with its rows and scores, from a folder of `write_bundle`."""
    model, about = load_model(name), json.loads((folder / "about.json").read_text(encoding="utf-8"))
    decision = GateDecision.model_validate(about["decision"])
    assert decision.model_version is not None  # a champion has a number
    logged = LoggedModel.of_version(name, decision.model_version, name)
    loaded = load_files(ModelFiles.within(folder / "files"), logged, model.readable)
    rows = pl.read_parquet(folder / "holdout.parquet")
    fit, validation, holdout = (Interval.model_validate(about["periods"][period]) for period in PERIODS)
    return ReportSubject(
        model=model,
        project=load_project(model.project),
        decision=decision,
        fit=fit,
        validation=validation,
        holdout=holdout,
        fitted_rows=pl.read_parquet(folder / "fitted.parquet"),
        fitted_truth=pl.read_parquet(folder / "fitted_truth.parquet")[LABEL].to_numpy(),
        holdout_rows=rows,
        challenger=ReportedVersion(
            version=decision.model_version,
            score=loaded.predict(rows),
            decision_threshold=loaded.decision_threshold,
            numeric=loaded.numeric,
            categorical=loaded.categorical,
            tags=about["tags"],
            libraries=loaded.libraries,
        ),
        predict=loaded.predict,
        missing_days=tuple(date.fromisoformat(day) for day in about["missing_days"]),
    )
