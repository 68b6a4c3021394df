"""Load `project.yaml` and `model.yaml` from the folders of projects.

An unknown key, a wrong type or a name that does not exist is refused with the file, the line, the key and the nearest
right one.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from include.config.model import Model
from include.config.yaml_file import key_error, read_yaml
from include.core.base import Config
from include.core.errors import ConfigError, nearest
from include.core.project import Project
from include.core.settings import project_folders

PROJECTS = Path(__file__).parents[1] / "projects"
"""The projects that come with the product; `NIGHTLY_PROJECTS` names folders with more."""

C = TypeVar("C", bound=Config)


@cache
def load_project(name: str) -> Project:
    """Raises `ConfigError` naming the file, the key and the nearest right one."""
    path = _only("project", name, f"{name}/project.yaml", project_names)
    project = _load(Project, path, name=name, folder=path.parent)
    for other in set(project_names()) - {name}:
        shared = sorted(project.feeds.keys() & (read_yaml(_find(f"{other}/project.yaml")[0]).get("feeds") or {}).keys())
        if shared:
            raise key_error(
                path, f"feeds.{shared[0]}: {other} has a feed of that name, and tables are named by feeds; rename one"
            )
    return project


@cache
def load_model(name: str) -> Model:
    """A model of any project: model names are unique in the bundle, since tables and DAGs are named by them."""
    path = _only("model", name, f"*/models/{name}/model.yaml", model_names)
    model = _load(Model, path, name=name, project=path.parents[2].name, folder=path.parent)
    project = load_project(model.project)
    if model.outcome not in project.outcomes:
        raise key_error(path, f"outcome: no outcome {model.outcome!r}{nearest(model.outcome, project.outcomes)}")
    if "databricks" in model.run_on.values() and project.databricks is None:
        raise key_error(path, "run_on: a step runs on databricks, and project.yaml has no section `databricks`")
    _check_monitor(path, project, model)
    return model


def _check_monitor(path: Path, project: Project, model: Model) -> None:
    for column in model.monitor.slices:
        if column not in project.entity.public:
            meant = nearest(column, project.entity.public)
            raise key_error(path, f"monitor.slices: {project.name} has no public column {column!r}{meant}")
        if column == "all":
            raise key_error(path, "monitor.slices: 'all' is what all rows together are called; rename the column")
    if model.monitor.publish_by < project.cutoff:
        raise key_error(
            path,
            f"monitor.publish_by: {model.monitor.publish_by:%H:%M} is before the cutoff of {project.name}, "
            f"{project.cutoff:%H:%M}, until which nothing can be scored",
        )


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


def is_simulated(project: Project) -> bool:
    """Return whether this is an example project: one whose `simulate.py` makes its deliveries."""
    return (project.folder / "simulate.py").is_file()


def project_names() -> list[str]:
    """All folders with a project.yaml."""
    return sorted({path.parent.name for path in _find("*/project.yaml")})


def model_names(project: str | None = None) -> list[str]:
    """Of one project, or of all."""
    return sorted(path.parent.name for path in _find(f"{project or '*'}/models/*/model.yaml"))


def _find(pattern: str) -> list[Path]:
    return sorted(path for root in project_roots() for path in root.glob(pattern))


def _only(kind: str, name: str, pattern: str, names: Callable[[], list[str]]) -> Path:
    """Return the file of the one project or model of a name."""
    found = _find(pattern)
    if not found:
        raise ConfigError(f"no {kind} {name!r} in {_listed(project_roots())}{nearest(name, names())}")
    if len(found) > 1:
        raise ConfigError(f"{kind} {name!r} is in two folders: {_listed(found)}; rename one folder")
    return found[0]


def _listed(paths: list[Path]) -> str:
    return ", ".join(map(str, paths))


def _load(kind: type[C], path: Path, **named: str | Path) -> C:
    declared = read_yaml(path)
    if clash := sorted(named.keys() & declared.keys()):
        raise key_error(path, f"{clash[0]}: is the folder's name, and is not written in the file")
    try:
        return kind.model_validate({**declared, **named})
    except ValidationError as error:
        raise key_error(path, *(_explain(kind, problem) for problem in error.errors())) from error


def _explain(kind: type[Config], problem: Any) -> str:
    where = ".".join(str(part) for part in problem["loc"] if part != "[key]")
    if problem["type"] == "extra_forbidden":
        return f"{where}: unknown key{nearest(str(problem['loc'][-1]), _keys_at(kind, problem['loc'][:-1]))}"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{where}: {message}" if where else message


def _keys_at(kind: type[Config], loc: tuple[Any, ...]) -> list[str]:
    """The keys that are right at a place, found by walking the annotations down the path of the error."""
    found: Any = kind
    for part in loc:
        if isinstance(found, type) and issubclass(found, Config):
            field = found.model_fields.get(str(part)) or next(
                (f for f in found.model_fields.values() if f.alias == part), None
            )
            found = field.annotation if field else None
        else:
            found = next(
                (a for a in getattr(found, "__args__", ()) if isinstance(a, type) and issubclass(a, Config)), None
            )
    if found is not None and not (isinstance(found, type) and issubclass(found, Config)):
        found = next((a for a in getattr(found, "__args__", ()) if isinstance(a, type) and issubclass(a, Config)), None)
    return [f.alias or name for name, f in found.model_fields.items()] if found else []
