"""Load `project.yaml` and `model.yaml` from the folders of projects.

An unknown key, a wrong type or a name that does not exist is refused with the file, the key and the nearest right one.
"""

from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from include.config.model import Model
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
    found = _find(f"{name}/project.yaml")
    if not found:
        raise ConfigError(f"no project {name!r} in {_listed(project_roots())}{nearest(name, project_names())}")
    if len(found) > 1:
        raise ConfigError(f"project {name!r} is in two folders: {_listed(found)}; rename one folder")
    project = _load(Project, found[0], name=name, folder=found[0].parent)
    for other in set(project_names()) - {name}:
        shared = sorted(project.feeds.keys() & (read_yaml(_find(f"{other}/project.yaml")[0]).get("feeds") or {}).keys())
        if shared:
            raise ConfigError(
                f"{project.folder / 'project.yaml'}: feeds.{shared[0]}: {other} has a feed of that name, and tables "
                "are named by feeds; rename one"
            )
    return project


@cache
def load_model(name: str) -> Model:
    """A model of any project: model names are unique in the bundle, since tables and DAGs are named by them."""
    paths = _find(f"*/models/{name}/model.yaml")
    if not paths:
        raise ConfigError(f"no model {name!r} in {_listed(project_roots())}{nearest(name, model_names())}")
    if len(paths) > 1:
        raise ConfigError(f"model {name!r} is in two projects: {', '.join(map(str, paths))}; rename one folder")
    path = paths[0]
    model = _load(Model, path, name=name, project=path.parents[2].name, folder=path.parent)
    project = load_project(model.project)
    if model.outcome not in project.outcomes:
        raise ConfigError(f"{path}: outcome: no outcome {model.outcome!r}{nearest(model.outcome, project.outcomes)}")
    if "databricks" in model.run_on.values() and project.databricks is None:
        raise ConfigError(
            f"{path}: run_on says databricks, and project.yaml has no section `databricks` that says where"
        )
    _check_monitor(path, project, model)
    return model


def _check_monitor(path: Path, project: Project, model: Model) -> None:
    for column in model.monitor.slices:
        if column not in project.entity.public:
            meant = nearest(column, project.entity.public)
            raise ConfigError(f"{path}: monitor.slices: {project.name} has no public column {column!r}{meant}")
        if column == "all":
            raise ConfigError(f"{path}: monitor.slices: 'all' is what all rows together are called; rename the column")
    if model.monitor.publish_by < project.cutoff:
        raise ConfigError(
            f"{path}: monitor.publish_by: {model.monitor.publish_by:%H:%M} is before the cutoff of {project.name}, "
            f"{project.cutoff:%H:%M}, until which nothing can be scored"
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


def _listed(paths: list[Path]) -> str:
    return ", ".join(map(str, paths))


class _Loader(yaml.SafeLoader):
    """YAML says that a key stands once; PyYAML lets the last one win, so that a pasted feed would hide another."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key, _ in node.value:
            name = self.construct_object(key, deep=True)
            if name in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {name!r} stands twice", key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that holds a mapping. Raises `ConfigError` naming the file, and the line where there is one."""
    try:
        declared = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506  it is a SafeLoader
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML: {error}") from error
    if not isinstance(declared, dict):
        raise ConfigError(f"{path}: must be a mapping of keys")
    return declared


def _load(kind: type[C], path: Path, **named: str | Path) -> C:
    declared = read_yaml(path)
    if clash := named.keys() & declared.keys():
        raise ConfigError(f"{path}: {', '.join(sorted(clash))}: is the folder's name, and is not written in the file")
    try:
        return kind.model_validate({**declared, **named})
    except ValidationError as error:
        raise ConfigError("\n".join(f"{path}: {_explain(kind, problem)}" for problem in error.errors())) from error


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
