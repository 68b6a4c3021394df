"""gate: check a version against the requirements of `model.yaml` for a champion, and record the decision."""

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import polars as pl

from include.config.loading import load_project
from include.config.model import Model
from include.core.errors import DataError
from include.core.horizons import target_day
from include.core.interval import Interval
from include.core.lifecycle import BY_PRODUCT, State
from include.core.log_lines import wrapped
from include.core.names import features_table
from include.core.project import Project
from include.core.records import BY_GATE, Check, DataView, Evaluated, Fitted, GateDecision
from include.core.settings import Settings
from include.gate import rules
from include.gate.evidence import Evidence, HoldoutScores
from include.io import postgres
from include.io.journal import read_journal
from include.io.postgres.gate_decisions import GateSubject
from include.io.postgres.model_files import RecordedFit
from include.io.postgres.promotions import PromotionHistory
from include.io.registry import LoadedModel, ModelFiles, Registry, Version
from include.io.registry.models import CALL_ROWS
from include.io.tables import Tables
from include.io.training_sets import taken_up, training_set_of_run, with_inputs
from include.steps.gate_probes import former_champions_of, refit_of, too_late
from include.training.training_set import LABEL, TrainingSet, seasonal_naive
from include.training.transforms import Transform

log = logging.getLogger(__name__)


def gate(
    model: Model, interval: Interval, settings: Settings, *, evaluated: Evaluated, fitted: Sequence[Fitted]
) -> GateDecision:
    """Decide on the version that `evaluate` registered for the run date, by the checks of `model.yaml`.

    The checks measure it on the holdout days. The decision goes to PostgreSQL and MLflow, and each check to the log. A
    rejection is a decision, not an error. The version is compared with the champion of the trainings before it
    (`promotions.read_champion_to_beat`); one that waits for an approval, with the champion of now if a person made that
    since. The same version, champion and rules give the recorded decision again. A
    version of an entity fraction is rejected, and nothing is recorded.

    Raises:
        DataError: the version has another run date, or its holdout rows can no longer be read.
    """
    project = load_project(model.project)
    if project.entity_fraction < 1 or evaluated.model_version is None:
        rejected = _of_fraction(project, model, interval, evaluated)
        log.warning("%s (%s) REJECTED: %s", model.name, evaluated.candidate, rejected.why_not)
        return rejected
    registry, tables, checks = Registry(settings), Tables(settings), model.all_checks
    version = registry.get_version(model.name, evaluated.model_version)
    interval = taken_up(project, model, interval, settings, version.tags.get("day"))
    if version.tags.get("day") != str(interval.end) or version.tags.get("model") != model.name:
        raise DataError(
            f"version {version.version} of {model.name} has the run date {version.tags.get('day')}, not "
            f"{interval}; run evaluate for that day"
        )
    champion = postgres.promotions.read_champion_to_beat(settings, model.name, version.version, interval.end)
    if model.approved_by is not None:
        since = postgres.promotions.read_champion_since_pending(settings, model.name, version.version)
        champion = champion if since is None else since
    recorded = _recorded(model, version.version, settings)
    files = registry.files(version, recorded.model_digest)
    subject = GateSubject(
        model=model.name,
        model_version=version.version,
        day=interval.end,
        candidate=evaluated.candidate,
        champion=champion,
        model_digest=files.digest,
        rules_digest=rules.rules_digest(checks, model.problem_type),
        validation=evaluated.validation,
        holdout=evaluated.interval,
        rows=evaluated.rows,
    )
    decision = postgres.gate_decisions.find_decision(settings, subject.gate_id)
    if decision is None:
        run = registry.get_fit(evaluated.run_id, _fit_of(model, evaluated.run_id, settings).tags_digest)
        training_set = training_set_of_run(project, model, interval, settings, run)
        features = tables.scan(features_table(project.name), int(run.tags["features_version"]))
        evidence = _evidence(model, registry, training_set, features, subject, fitted, version, files, settings)
        evidence = replace(
            evidence,
            naive=seasonal_naive(project, model, evidence.labels, training_set.labels_within).to_numpy(),
            too_late=too_late(evidence.labels, read_journal(settings, project, int(run.tags["watermark"]))),
            adopted=recorded.adopted_from is not None,
        )
        verdicts = (*_unseen_days(recorded, subject), *rules.run_checks(checks, evidence))
        if skipped := rules.not_run(checks, verdicts):
            log.info("%s: rejected already, so not run: %s", model.name, ", ".join(skipped))
        decision = postgres.gate_decisions.record_decision(settings, subject, verdicts)
    _move(model, decision, version.version, settings)  # this and the next also when it was killed after the decision
    registry.record_gate(version, decision)
    _log_decision(decision)
    return decision


def measure_against(model: Model, subject: GateSubject, settings: Settings) -> Evidence:
    """Return what the check against the champion sees, where `subject` may name another version as the champion.

    Raises:
        DataError: the holdout rows of the version can no longer be read.
    """
    project, registry = load_project(model.project), Registry(settings)
    version = registry.get_version(model.name, subject.model_version)
    interval = taken_up(project, model, Interval.of(subject.day), settings, version.tags.get("day"))
    run = registry.get_fit(version.run_id, _fit_of(model, version.run_id, settings).tags_digest)
    training_set = training_set_of_run(project, model, interval, settings, run)
    features = Tables(settings).scan(features_table(project.name), int(run.tags["features_version"]))
    files = registry.files(version, subject.model_digest)
    return _evidence(model, registry, training_set, features, subject, (), version, files, settings)


def _move(model: Model, decision: GateDecision, version: int, settings: Settings) -> None:
    """Move the version to what the decision says of it. One that is or was the champion stays what it is."""
    with postgres.promotions.open_promotion_history(settings, model.name) as book:
        state = book.state(version)
        if decision.passed and state is State.REJECTED:
            why = f"passed all {len(decision.checks)} checks of the gate, decided again"
            book.move(version, State.REGISTERED, by=BY_GATE, why=why, gate_id=decision.gate_id)
        elif decision.why_not and state in (State.REGISTERED, State.PENDING):
            book.move(version, State.REJECTED, by=BY_GATE, why=decision.why_not, gate_id=decision.gate_id)
        if model.shadow is None and model.approved_by is None:
            _end_pending(model, book, version)


def _end_pending(model: Model, book: PromotionHistory, version: int) -> None:
    """End the versions that wait for what model.yaml does not declare any more; `version` is promoted at once."""
    for pending in book.pending():
        number = pending.move.model_version
        if number == version:
            continue
        why = (
            f"{model.name}: model.yaml declares neither shadow nor approval any more, so nothing decides about version "
            f"{number}. If it shall become the champion: python -m include.cli promote --model {model.name} --version "
            f"{number} --from-day … --by … --why … --force"
        )
        book.move(number, State.EXPIRED, by=BY_PRODUCT, why=why)
        log.warning("%s", why)


def _of_fraction(project: Project, model: Model, interval: Interval, evaluated: Evaluated) -> GateDecision:
    declared = project.folder / "project.yaml"
    if project.entity_fraction < 1:
        fraction = f"entity_fraction: {project.entity_fraction:g}"
        why = f"{declared} has {fraction}; take it out, build the features of all entities, train again"
    else:
        why = f"evaluate ran while {declared} had an entity_fraction; run fit and evaluate again"
    failed = Check(
        name="entity fraction",
        subject=evaluated.candidate,
        measured=None,
        threshold=1,
        passed=False,
        sentence=f"entity fraction: cannot be promoted ({why})",
    )
    return GateDecision(
        interval=interval,
        rows=evaluated.rows,
        model_version=evaluated.model_version,
        model=model.name,
        candidate=evaluated.candidate,
        gate_id="not recorded",
        champion=None,
        passed=False,
        checks=(failed,),
    )


def _unseen_days(recorded: RecordedFit, subject: GateSubject) -> tuple[Check, ...]:
    """Return the check of an adopted version that only what a person says keeps apart from the days that measure it."""
    if recorded.adopted_from is None:
        return ()
    seen = sum(day <= recorded.fit_end for day in subject.holdout.days)
    sentence = (
        f"adopted from {recorded.adopted_from}, where it was fitted; by the word of who adopted it, on outcomes up to "
        f"{recorded.fit_end}: holdout days ({subject.holdout}) that it may have seen"
    )
    return (
        Check(
            name="unseen days",
            subject=subject.candidate,
            measured=seen,
            threshold=0,
            passed=seen == 0,
            sentence=f"{sentence} {seen}; at most 0 is required",
        ),
    )


def _evidence(
    model: Model,
    registry: Registry,
    training_set: TrainingSet,
    features: pl.LazyFrame,
    subject: GateSubject,
    fitted: Sequence[Fitted],
    version: Version,
    files: ModelFiles,
    settings: Settings,
) -> Evidence:
    rows = training_set.holdout_rows
    challenger = registry.load(version, subject.model_digest, model)
    score, microseconds = _timed(challenger, rows)
    champion = champion_missing = saw = None
    needed = {name for check in model.all_checks for name in check.candidates}
    candidates = {}
    for each in fitted:
        if each.candidate in needed:
            is_challenger = each.run_id == version.run_id  # then its scores are there already
            loaded = challenger if is_challenger else _load_fit(model, registry, each.run_id, settings)
            scored = score if is_challenger else loaded.predict(rows)
            candidates[each.candidate] = HoldoutScores(each.candidate, scored, loaded.inputs)

    def score_other(name: str, loaded: LoadedModel) -> np.ndarray | str:
        return _score_other(name, loaded, challenger, rows, features, training_set.data_view)

    def fitted_at(numbers: np.ndarray) -> pl.DataFrame:
        return training_set.fitted_at(numbers, model.features)

    if subject.champion is not None:
        name = f"champion {subject.champion}"
        found = registry.get_version(model.name, subject.champion)
        recorded = _recorded(model, subject.champion, settings)
        loaded, saw = registry.load(found, recorded.model_digest, model), recorded.fit_end
        scores = score_other(name, loaded)
        if isinstance(scores, str):
            champion_missing = scores
        else:
            champion = HoldoutScores(name, scores, loaded.inputs, loaded.decision_threshold)
    more = [name for check in model.all_checks for name in check.columns]
    there = [name for name in more if name in features.collect_schema().names()]
    return Evidence(
        problem_type=model.problem,
        inputs=model.features,
        seed=model.seed,
        days=rows.select(target_day()).to_series().to_numpy(),
        truth=rows[LABEL].to_numpy(),
        labels=with_inputs(rows, features, there, training_set.data_view),
        fitted_truth=training_set.fitted_labels,
        challenger=HoldoutScores(
            f"version {subject.model_version}",
            score,
            challenger.inputs,
            challenger.decision_threshold,
        ),
        candidates=candidates,
        champion=champion,
        champion_missing=champion_missing,
        champion_saw=saw,
        microseconds_per_row=microseconds,
        megabytes=files.megabytes,
        fitted=fitted_at,
        refit=refit_of(challenger, fitted_at, rows, _transforms(model, subject.candidate)),
        former_champions=former_champions_of(
            model, subject.model_version, subject.day, registry, settings, score_other
        ),
    )


def _timed(model: LoadedModel, rows: pl.DataFrame) -> tuple[np.ndarray, float | None]:
    """Return the scores of rows, and the microseconds for each row that the estimator got; None without rows."""
    began = time.process_time()  # not the wall clock: a pause of the machine says nothing about the model
    scores = model.predict(rows)
    seconds = time.process_time() - began
    asked = -(-rows.height // CALL_ROWS) * CALL_ROWS  # a call with fewer rows is filled up
    return scores, seconds / asked * 1e6 if asked else None


def _transforms(model: Model, candidate: str) -> Sequence[Transform]:
    """Return the transforms of a candidate; none of a version that was fitted elsewhere."""
    return next((each.transforms for each in model.candidates if each.name == candidate), ())


def _score_other(
    name: str,
    loaded: LoadedModel,
    challenger: LoadedModel,
    rows: pl.DataFrame,
    features: pl.LazyFrame,
    data_view: DataView,
) -> np.ndarray | str:
    """Return the scores of the holdout rows by another version, called by its name, or why it cannot score them."""
    if absent := sorted(set(loaded.inputs) - set(features.collect_schema().names())):
        return f"the features lack {', '.join(absent)}, which {name} needs"
    if not _predicts_the_same(loaded, challenger):
        return f"{name} has another problem_type, other quantiles or other labels; promote by hand"
    scores = loaded.predict(with_inputs(rows, features, loaded.inputs, data_view))
    added = len(challenger.classes) - len(loaded.classes)
    return np.pad(scores, [(0, 0), (0, added)]) if added else scores


def _predicts_the_same(champion: LoadedModel, challenger: LoadedModel) -> bool:
    """Return whether the scores of two versions can be compared. Labels may be added at the end: the champion has 0."""
    known = challenger.classes[: len(champion.classes)]
    own, other = ((each.problem_type, each.quantiles) for each in (champion, challenger))
    return own == other and champion.classes == known


def _recorded(model: Model, version: int, settings: Settings) -> RecordedFit:
    """Return the fit that a version is, as the shared database recorded it."""
    return postgres.model_files.read_versions(settings, model.name, [version])[version]


def _load_fit(model: Model, registry: Registry, run_id: str, settings: Settings) -> LoadedModel:
    recorded = _fit_of(model, run_id, settings)
    return registry.load(registry.get_fit(run_id, recorded.tags_digest), recorded.model_digest, model)


def _fit_of(model: Model, run_id: str, settings: Settings) -> RecordedFit:
    """Return the fit of a run, as the shared database recorded it."""
    return postgres.model_files.read_fit(settings, model.name, run_id)


def _log_decision(decision: GateDecision) -> None:
    """Log the decision, and each check: first those that failed."""
    for level, line in decision_lines(decision):
        log.log(level, "%s", line)


def decision_lines(decision: GateDecision) -> Iterator[tuple[int, str]]:
    """Yield the lines about a decision, each with its level: what was decided, what failed, then what passed."""
    against = "no champion yet" if decision.champion is None else f"compared with champion {decision.champion}"
    failed = sum(not check.passed for check in decision.checks)
    of = f"{failed} of {len(decision.checks)} checks failed" if failed else f"all {len(decision.checks)} checks passed"
    verdict = "passed" if decision.passed else "REJECTED"
    head = f"{decision.model} {decision.subject} ({decision.candidate}), {against}: {verdict}, {of}"
    for line in wrapped(head, indent="    "):
        yield logging.INFO, line
    for check in sorted(decision.checks, key=lambda each: each.passed):
        level, mark = (logging.INFO, "✓") if check.passed else (logging.WARNING, "✗")
        for line in wrapped(f"{mark} {check.name}: {check.sentence}", indent="    "):
            yield level, f"  {line}"
    if failed:  # Airflow's page opens at the end of a log
        names = ", ".join(dict.fromkeys(check.name for check in decision.checks if not check.passed))
        for line in wrapped(f"✗ {decision.subject} is rejected: {names} (the first lines say why)", indent="    "):
            yield logging.WARNING, line
