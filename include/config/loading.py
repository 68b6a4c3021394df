"""Load `project.yaml` and `model.yaml` from the folders of projects.

An unknown key, a wrong type or a name that does not exist is refused with the file, the line, the key and the nearest
right one.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

from pydantic import ValidationError

from include.config.holiday_files import with_holiday_files
from include.config.model import Model
from include.config.project import WatchedProject
from include.core.base import Config
from include.core.errors import ConfigError, nearest
from include.core.project import Project
from include.core.routes import Routing
from include.core.settings import project_folders
from include.core.variants import kinds_in
from include.core.yaml_file import key_error, read_yaml

PROJECTS = Path(__file__).parents[1] / "projects"
"""The projects that come with the product; `NIGHTLY_PROJECTS` names folders with more."""

C = TypeVar("C", bound=Config)


@cache
def load_project(name: str) -> Project:
    """Raises `ConfigError` naming the file, the key and the nearest right one."""
    return read_project(project_folder(name) / "project.yaml")


def read_project(path: Path) -> Project:
    """Return the project that a file project.yaml declares, wherever its folder is; raises as `load_project` does."""
    return with_holiday_files(_load(WatchedProject, path, name=path.parent.name, folder=path.parent))


@cache
def load_model(name: str) -> Model:
    """A model of any project: model names are unique in the bundle, since tables and DAGs are named by them."""
    path = _only("model", name, _inside_projects(f"models/{name}/model.yaml"), model_names)
    return read_model(path, load_project(path.parents[2].name))


def read_model(path: Path, project: Project) -> Model:
    """Return the model of a project that a file model.yaml declares; raises as `load_model` does."""
    return fitted_to(_load(Model, path, name=path.parent.name, project=project.name, folder=path.parent), project, path)


def fitted_to(model: Model, project: Project, path: Path) -> Model:
    """Return the model with what `project.yaml` says about it.

    Raises:
        ConfigError: names each line of `model.yaml` that does not fit the project.
    """
    if problems := [*_misfits(model, project)]:
        raise key_error(path, *problems)
    return model.model_copy(update={"classes": project.outcomes[model.outcome].labels})


def _misfits(model: Model, project: Project) -> Iterator[str]:
    """Yield a sentence for each declaration of a model that does not fit its project."""
    if model.outcome not in project.outcomes:
        yield f"outcome: no outcome {model.outcome!r}{nearest(model.outcome, project.outcomes)}"
    else:
        labels = project.outcomes[model.outcome].labels
        if bool(labels) != (model.problem_type == "multiclass"):
            has = "labels" if labels else "no labels (outcomes: labels in project.yaml)"
            yield f"problem_type: outcome {model.outcome} has {has}, so it cannot be {model.problem_type}"
        model = model.model_copy(update={"classes": labels})
        yield from model.costs.misfits(model.problem_type, model.classes)
    if model.horizon_days > project.entity.horizon_days:
        most = project.entity.horizon_days
        yield f"horizon_days: is {model.horizon_days}, and entity.horizon_days of project.yaml is {most}"
    if model.run_on.get("fit") == "spark":
        yield "run_on.fit: a fit does not run on Spark, since one estimator gets all rows; write worker or databricks"
    if "databricks" in model.run_on.values() and project.databricks is None:
        yield "run_on: a step runs on databricks, and project.yaml has no section `databricks`"
    if model.train_schedule is not None:
        try:
            project.require_schedule("train_schedule", model.train_schedule)
        except ValueError as error:
            yield str(error)
    for monitor in model.all_monitors:
        try:
            monitor.require_fit(model, project)
        except ValueError as error:
            yield f"monitors: {monitor.kind}: {error}"
    for action in model.actions:
        yield from (f"actions: {action.kind}: {problem}" for problem in action.misfits(project))


def project_roots() -> list[Path]:
    """Return the folders that hold projects: the product's own, then those of `NIGHTLY_PROJECTS`.

    Raises:
        ConfigError: a folder of `NIGHTLY_PROJECTS` does not exist.
    """
    named = project_folders()
    for folder in named:
        if not folder.is_dir():
            raise ConfigError(f"NIGHTLY_PROJECTS names {folder}, which is not a folder")
    return [PROJECTS, *named]


def load_routing(project: str) -> Routing:
    """Return who gets messages about a project and its models.

    A message must reach people whatever is wrong with a file: without a readable project.yaml, all go to
    `nightly_alerts`, and a model without a readable model.yaml has the project's owner.
    """
    owners = {}
    try:
        config = load_project(project)
        for name in model_names(project):
            try:
                owners[name] = load_model(name).owner
            except ConfigError:
                owners[name] = config.owner
    except ConfigError:
        return Routing(project=project)
    return Routing(project=project, owner=config.owner, owners=owners, routes=config.notify)


def is_simulated(project: Project) -> bool:
    """Return whether this is an example project: one whose `simulate.py` makes its deliveries."""
    return (project.folder / "simulate.py").is_file()


def project_names() -> list[str]:
    """All folders with a project.yaml."""
    return sorted({path.parent.name for path in _inside_projects("project.yaml")})


def model_names(project: str | None = None) -> list[str]:
    """Of one project, or of all."""
    return sorted(path.parent.name for path in _model_files(project or "*"))


def read_ahead() -> None:
    """Read the YAML files of all projects, so that a process forked later parses only those whose text is another."""
    with suppress(ConfigError):  # who needs the file raises it
        for path in [*_inside_projects("project.yaml"), *_model_files()]:
            with suppress(ConfigError):
                read_yaml(path)


def project_folder(name: str) -> Path:
    """Return the folder of a project.

    Raises:
        ConfigError: there is no such project, or there are two.
    """
    found = [path for path in _inside_projects("project.yaml") if path.parent.name == name]
    return _only("project", name, found, project_names).parent


def _inside_projects(file: str) -> list[Path]:
    """Return the files of a place inside all projects.

    Raises:
        ConfigError: a folder of projects cannot be read.
    """
    try:
        folders = [each.path for root in project_roots() if root.is_dir() for each in os.scandir(root)]
    except OSError as error:
        raise ConfigError(f"{error.filename}: cannot be read: {error.strerror}") from error
    # `Path.glob` takes ten times as long, which is noticed with hundreds of models
    return sorted(Path(path) for each in folders if os.path.exists(path := f"{each}{os.sep}{file}"))  # noqa: PTH110


def _model_files(project: str = "*") -> list[Path]:
    return sorted(path for root in project_roots() for path in root.glob(f"{project}/models/*/model.yaml"))


def _only(kind: str, name: str, found: list[Path], names: Callable[[], list[str]]) -> Path:
    """Return the file of the one project or model of a name."""
    if not found:
        raise ConfigError(f"no {kind} {name!r} in {_listed(project_roots())}{nearest(name, names())}")
    if len(found) > 1:
        raise ConfigError(f"{kind} {name!r} is in two folders: {_listed(found)}; rename one folder")
    return found[0]


def _listed(paths: list[Path]) -> str:
    return ", ".join(map(str, paths))


def _load(kind: type[C], path: Path, **named: str | Path) -> C:
    declared = read_yaml(path)
    if wrong := [*misplaced(declared, named)]:
        raise key_error(path, *wrong)
    try:
        return kind.model_validate({**declared, **named})
    except ValidationError as error:
        raise key_error(path, *(line for problem in error.errors() for line in explain(kind, problem))) from error


def misplaced(declared: Mapping[str, Any], named: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence for each key of a file that other places say, such as the name of its folder."""
    for key in sorted(named.keys() & declared.keys()):
        yield f"{key}: is the folder's name, and is not written in the file"
    if "project" in named and "classes" in declared:
        yield "classes: is not written in the file; `labels` of the outcome in project.yaml says them"


def explain(kind: type[Config], problem: Any) -> list[str]:
    """Return the sentences about an error of pydantic. Each begins with its key as people write it."""
    loc = problem["loc"][:-1] if problem["type"] == "extra_forbidden" else problem["loc"]
    path, found = _walk(kind, loc)
    if problem["type"] == "extra_forbidden":
        key = problem["loc"][-1]
        return [f"{_dotted([*path, key])}: unknown key{nearest(str(key), _keys_of(found))}"]
    if problem["type"] == "union_tag_invalid":
        tag = problem["ctx"]["tag"]
        return [f"{_dotted([*path, 'kind'])}: there is no {tag!r}{nearest(tag, kinds_in(found))}"]
    if problem["type"] == "union_tag_not_found":
        return [f"{_dotted([*path, 'kind'])}: is needed{nearest('', kinds_in(found))}"]
    lines = problem["msg"].removeprefix("Value error, ").split("\n")
    return [f"{_dotted(path)}: {line}" if path else line for line in lines]


def _dotted(path: list[Any]) -> str:
    return ".".join(map(str, path))


def _walk(kind: type[Config], loc: tuple[Any, ...]) -> tuple[list[Any], Any]:
    """Follow the place of an error down the annotations.

    Returns:
        The place as people write it, without what pydantic adds: `[key]`, and the kind of a variant after its number;
        and the annotation there.
    """
    path: list[Any] = []
    found: Any = kind
    for part in loc:
        variants = {} if isinstance(found, type) or get_origin(found) in {tuple, dict} else kinds_in(found)
        if part in variants:
            found = variants[part]
            continue
        if part != "[key]":
            path.append(part)
        found = _inside(_config_of(found) or found, part)
    return path, found


def _inside(annotation: Any, part: Any) -> Any:
    """The annotation of a field of a declaration, or of an entry of a list or mapping."""
    if _is_config(annotation):
        fields = annotation.model_fields
        field = fields.get(str(part)) or next((f for f in fields.values() if f.alias == part), None)
        return field.annotation if field else None
    return next((each for each in reversed(get_args(annotation)) if each is not ...), None)


def _is_config(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Config)


def _config_of(annotation: Any) -> type[Config] | None:
    """The declaration itself, also if it is optional."""
    if _is_config(annotation):
        return annotation  # type: ignore[no-any-return]
    optional = isinstance(annotation, UnionType) or get_origin(annotation) is Union
    return next((each for each in get_args(annotation) if _is_config(each)), None) if optional else None


def _keys_of(annotation: Any) -> list[str]:
    """The keys that are right in a declaration."""
    found = _config_of(annotation)
    return [field.alias or name for name, field in found.model_fields.items()] if found else []
