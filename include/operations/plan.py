"""plan: say what a branch would change in results, before it is merged. It reads only.

The working tree is compared with another commit, key by key and by the syntax trees of code, and with what the
installation recorded, if its database is at hand. `plan_words` says what follows.
"""

import hashlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from pydantic import TypeAdapter, ValidationError

from include.config.loading import load_model, load_project, model_names, read_model, read_project
from include.config.model import Model
from include.core.changes import (
    FEATURES_CODE,
    PRODUCT,
    Change,
    Effect,
    declared,
    differences,
    effect_in_model,
    effect_in_project,
    features_digest,
    features_files,
    outcomes_in_features,
    without_empty,
)
from include.core.code import code_digest
from include.core.errors import ActionRequiredError, ConfigError
from include.core.project import Project
from include.core.yaml_file import read_yaml
from include.io import git
from include.io.postgres.migrations import NEWEST
from include.io.postgres.recorded import Installation, StepCost, read_installation
from include.operations.plan_words import ChangePlan
from include.training.config import Training

COSTS = TypeAdapter(dict[str, StepCost])
"""Reads and writes a file of costs, for a place that does not reach the database."""

OF_KINDS = "the product's transforms and estimators"
"""Code that fits only the models that declare estimators in `model.yaml`."""

OF_SEARCH = "the product's search"
"""Code that fits only the models with a candidate that has a `search`, whoever wrote its estimator."""

MIGRATIONS = "io/postgres/migrations/versions/*.py"
PRODUCT_CODE: tuple[tuple[str, tuple[str, ...], Effect], ...] = (
    ("the product's code that makes features", FEATURES_CODE, Effect.FEATURES),
    (
        "the product's code that fits models",
        ("steps/fit.py", "training/training_set.py", "training/labelled_rows.py"),
        Effect.FIT,
    ),
    (
        OF_KINDS,
        ("training/declared.py", "training/transforms/*.py", "training/estimators/*.py"),
        Effect.FIT,
    ),
    (OF_SEARCH, ("training/search.py",), Effect.FIT),
    (
        "the product's code that decides in the gate",
        (
            *("gate/**/*.py", "steps/gate.py", "steps/gate_probes.py", "core/threshold.py"),
            *("training/calibration.py", "training/relative_errors.py", "training/problem_types/*.py"),
        ),
        Effect.GATE,
    ),
    (
        "the product's code that measures and raises alerts",
        ("monitoring/*.py", "steps/monitor.py", "io/postgres/performance.py"),
        Effect.MONITORS,
    ),
)
"""The product's files below `include` of which results depend, as the digests that steps record cover them."""


def make_plan(name: str, against: str, url: str | None, costs: Path | None = None) -> ChangePlan:
    """Return what the working tree would change in the results of a project.

    Args:
        name: the project.
        against: a branch, tag or commit; the newest commit that it shares with HEAD is what is compared.
        url: of the shared database; None if it is not at hand.
        costs: a file of costs, in place of what the database recorded.

    Raises:
        ActionRequiredError: a file is wrong, the ref does not exist, or there is nothing to compare with.
    """
    project = load_project(name)
    models = {each: load_model(each) for each in model_names(name)}
    notes: list[str] = []
    installation = _installation(url, project, models, notes) if url else None
    root = git.root_of(project.folder)
    changes, base = list[Change](), None
    if root is not None:
        base = git.base_of(root, against)
        changes = _changes_since(root, base, project, models, notes)
    elif installation is None:
        raise ActionRequiredError(
            f"{project.folder} is in no git repository, and there is no database at hand (NIGHTLY_DATABASE_URL), so "
            "there is nothing to compare with"
        )
    else:
        notes.append(f"{project.folder} is in no git repository, so only prepared days are compared")
    return ChangePlan(
        project=project,
        models=models,
        against=against,
        base=base,
        changes=changes,
        features_digest=features_digest(project),
        installation=installation,
        costs=_read_costs(costs) if costs else installation.costs if installation else {},
        newest_migration=NEWEST,
        notes=notes,
    )


def _read_costs(path: Path) -> dict[str, StepCost]:
    try:
        return COSTS.validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise ActionRequiredError(
            f"{path} is not a file of costs; where the database can be reached, type: "
            "python -m include.cli plan --project PROJECT --format costs > costs.json"
        ) from error


def _installation(url: str, project: Project, models: Mapping[str, Model], notes: list[str]) -> Installation | None:
    """Return what the installation recorded. Without an answer, the plan says so and goes on."""
    try:
        return read_installation(url, project.name, [*models])
    except (sa.exc.SQLAlchemyError, ActionRequiredError) as error:
        denied = getattr(getattr(error, "orig", None), "pgcode", None) == "42501"
        why = "its login may not read the views of operators (role ops_reader)" if denied else "it does not answer"
        if isinstance(error, ActionRequiredError) or (isinstance(error, sa.exc.ProgrammingError) and not denied):
            why = "it has not the views of this product; type: python -m include.cli migrate"
        notes.append(f"The shared database was not read: {why}. Days, versions and costs are not known.")
        return None


def _changes_since(
    root: Path, commit: str, project: Project, models: Mapping[str, Model], notes: list[str]
) -> list[Change]:
    """Return the differences between the working tree and a commit."""
    here, lock = project.folder.resolve(), PRODUCT.parent / "requirements.txt"
    may_have_product = PRODUCT.resolve().is_relative_to(root.resolve())
    with tempfile.TemporaryDirectory(prefix="nightly-plan-") as folder:
        top = Path(folder)
        git.extract(root, commit, [here, *([PRODUCT, lock] if may_have_product else [])], top)
        before = top / here.relative_to(root.resolve())
        changes = list(_of_project(before, here, project, models, notes))
        product = top / PRODUCT.resolve().relative_to(root.resolve()) if may_have_product else None
        if product and (product / "core").is_dir():
            changes += _of_product(product, models)
            changes += _of_lock(top / lock.resolve().relative_to(root.resolve()), lock, models)
        else:
            notes.append("The product is not in this repository: its code and requirements.txt count as unchanged.")
        changes += _of_other_files(before, here, changes)
    return changes


def _of_project(
    before: Path, here: Path, project: Project, models: Mapping[str, Model], notes: list[str]
) -> Iterator[Change]:
    was = before / "project.yaml"
    if not was.is_file():
        yield Change("project.yaml", "the project is new", Effect.FEATURES)
        for name in models:
            yield Change(f"models/{name}/model.yaml", "the model is new", Effect.FIT, name)
        return
    earlier: Project | None = None
    read = outcomes_in_features(project)
    try:
        earlier = read_project(was)
        read |= outcomes_in_features(earlier)
        pair = declared(earlier), declared(project)
    except ConfigError:
        notes.append("This code cannot read project.yaml as it was, so its text was compared, without defaults.")
        pair = without_empty(read_yaml(was)), without_empty(read_yaml(here / "project.yaml"))
    yield from differences("project.yaml", *pair, lambda key: effect_in_project(key, read))
    old, new = (_expectations(each / "expectations.yaml") for each in (before, here))
    yield from differences("expectations.yaml", old, new, lambda _: Effect.EXPECTATIONS)
    yield from _of_code(before, here, sorted({p.name for each in (before, here) for p in features_files(each)}))
    for name in sorted(path.parent.name for path in before.glob("models/*/model.yaml")):
        if name not in models:
            yield Change(f"models/{name}/model.yaml", "the model is removed", Effect.RUNS, name)
    for name, model in models.items():
        yield from _of_model(before / "models" / name, earlier, model, notes)


def _expectations(path: Path) -> dict[str, Any]:
    return without_empty(read_yaml(path)) if path.is_file() else {}


def _of_code(before: Path, here: Path, names: Sequence[str]) -> Iterator[Change]:
    for name in names:
        one, other = _code(before / name), _code(here / name)
        if one != other:
            what = "is new" if one is None else "is removed" if other is None else "its code changed"
            yield Change(name, what, Effect.FEATURES)


def _code(path: Path) -> str | None:
    return code_digest([path]) if path.is_file() else None


def _of_model(before: Path, earlier: Project | None, model: Model, notes: list[str]) -> Iterator[Change]:
    where = f"models/{model.name}"
    file = f"{where}/model.yaml"
    if not (before / "model.yaml").is_file():
        yield Change(file, "the model is new", Effect.FIT, model.name)
        return

    def effect_of(key: str) -> Effect:
        return effect_in_model(key, Training.model_fields)

    try:
        was = read_model(before / "model.yaml", earlier) if earlier else None
    except ConfigError:
        was = None
    if was is None:
        notes.append(f"This code cannot read {file} as it was, so its text was compared, without defaults.")
        pair = without_empty(read_yaml(before / "model.yaml")), without_empty(read_yaml(model.folder / "model.yaml"))
    else:
        pair = _declared_model(was), _declared_model(model)
    yield from differences(file, *pair, effect_of, model.name)
    if _code(before / "estimator.py") != _code(model.folder / "estimator.py"):
        yield Change(f"{where}/estimator.py", "its code changed", Effect.FIT, model.name)


def _declared_model(model: Model) -> dict[str, Any]:
    """Return what a model declares, by the keys of `model.yaml`, with the checks and monitors that have defaults."""
    dumped = model.model_dump(mode="json", by_alias=True, exclude={"name", "project", "gate", "monitors", "classes"})
    dumped["gate"] = {
        **model.gate.model_dump(mode="json"),
        "checks": [each.model_dump(mode="json") for each in model.all_checks],
    }
    dumped["monitors"] = [each.model_dump(mode="json") for each in model.all_monitors]
    cleaned: dict[str, Any] = without_empty(dumped)
    return cleaned


def _of_product(before: Path, models: Mapping[str, Model]) -> Iterator[Change]:
    """Return what changed in the product's own code, without the projects that come with it."""
    named: set[str] = set()
    for what, patterns, effect in PRODUCT_CODE:
        names = {name for pattern in patterns for name in _python(before, pattern) | _python(PRODUCT, pattern)}
        named |= names
        if changed := _changed(before, names):
            each_model: Sequence[str | None] = (
                [*models] if effect in (Effect.FIT, Effect.GATE, Effect.MONITORS) else [None]
            )
            for model in each_model:
                if model is None or _uses(models[model], what):
                    yield Change("include", f"{what}: {_listed(changed)}", effect, model)
    migrations = _python(PRODUCT, MIGRATIONS)
    if new := sorted(migrations - _python(before, MIGRATIONS)):
        yield Change("include", f"migrations: {_listed(new)}", Effect.SCHEMA)
    others = {
        name for name in _python(before, "**/*.py") | _python(PRODUCT, "**/*.py") if not name.startswith("projects/")
    }
    if changed := _changed(before, others - named - migrations):
        yield Change("include", f"{len(changed)} other files of the product: {_listed(changed)}", Effect.PRODUCT)


def _uses(model: Model, what: str) -> bool:
    """Return whether a fit of the model depends on a part of the product's code."""
    if what == OF_KINDS:
        return any(each.estimator for each in model.candidates)
    return what != OF_SEARCH or any(each.search for each in model.candidates)


def _of_lock(before: Path, now: Path, models: Mapping[str, Model]) -> Iterator[Change]:
    if before.is_file() and now.is_file() and before.read_bytes() != now.read_bytes():
        for model in models:
            yield Change("requirements.txt", "the locked environment changed", Effect.FIT, model)


def _python(folder: Path, pattern: str) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.glob(pattern)}


def _changed(before: Path, names: set[str]) -> list[str]:
    return sorted(name for name in names if _code(before / name) != _code(PRODUCT / name))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _of_other_files(before: Path, here: Path, found: Sequence[Change]) -> Iterator[Change]:
    """Return the other files of the project whose bytes changed: they have words only, or no digest covers them."""
    named = {change.file for change in found}
    whole = [Path(change.file).parent for change in found if change.what.endswith((" is new", " is removed"))]
    whole = [folder for folder in whole if folder.name or not (before / "project.yaml").is_file()]
    names = {str(path.relative_to(before)) for path in before.rglob("*") if path.is_file()} | git.files_of(here)
    for name in sorted(names - named):
        if any(Path(name).is_relative_to(folder) for folder in whole):
            continue
        if _sha256(before / name) == _sha256(here / name):
            continue
        path = Path(name)
        same_code = path.suffix == ".py" and _code(before / name) == _code(here / name)
        if same_code or path.name in ("project.yaml", "expectations.yaml", "model.yaml"):
            yield Change(name, "comments, layout or written defaults only", Effect.WORDS)
        elif path.suffix == ".md":
            yield Change(name, "text", Effect.WORDS)
        elif path.name == "simulate.py":
            yield Change(name, "the deliveries of the example project", Effect.RUNS)
        else:
            yield Change(name, "a file that no digest covers", Effect.PRODUCT)


def _sha256(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
