"""check_config: say everything that is wrong with the files of a project, before a nightly run meets it.

It reads each file by itself, so that one that is wrong hides no other, and then how they fit together. It tries
outcomes and expectations on a few made-up rows, `features.py` on feeds without rows, and makes each candidate of
`estimator.py`. It reads no delivery, no table and no database.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from include.config.examine import examine
from include.config.holiday_files import with_holiday_files
from include.config.loading import fitted_to, project_folder, project_roots
from include.config.model import Model
from include.core import outcomes, routes
from include.core.errors import ConfigError, nearest
from include.core.project import Project
from include.core.yaml_file import read_yaml
from include.operations.check_code import check_estimator, check_features
from include.operations.problems import Problem, Problems


def check_config(project: str) -> list[Problem]:
    """Return everything that is wrong with a project and its models, file by file.

    Raises:
        ConfigError: there is no such project, or there are two.
    """
    folder = project_folder(project)
    file, found = folder / "project.yaml", Problems()
    raw = found.yaml(file)
    wrong, config = examine(Project, raw, name=project, folder=folder) if raw else ([], None)
    found.add_keys(file, wrong)
    if config is not None:
        with found.refusals(file):
            config = with_holiday_files(config)
        found.add(file, outcomes.problems(config))
    sound = config if config is not None and not found.problems else None
    with found.refusals(folder / "expectations.yaml"):
        _check_expectations(folder / "expectations.yaml", raw, config, found)
    columns = check_features(folder / "features.py", sound, found)
    models = sorted(folder.glob("models/*/model.yaml"))
    for path in models:
        _check_model(path, raw, config, columns, found)
    if config is not None:
        found.add_keys(file, [*_of_no_model(config, models)])
        found.add_keys(file, [*routes.misfits(config.notify, config.owner, _owners(models))])
    return sorted(dict.fromkeys(found.problems), key=lambda each: (each.file, each.line))


def unwritten(project: str) -> list[Problem]:
    """Return the keys of each model's specification that still have a placeholder. They stop no run.

    Models whose `model.yaml` is wrong are left out: `check_config` has them.
    """
    found = Problems()
    for file in sorted(project_folder(project).glob("models/*/model.yaml")):
        named = {"name": file.parent.name, "project": project, "folder": file.parent}
        with suppress(ConfigError, ValidationError):
            model = Model.model_validate({**read_yaml(file), **named})
            found.add_keys(file, [f"{key}: is to be filled in{_what_for(key)}" for key in model.unwritten])
    return found.problems


def _what_for(key: str) -> str:
    found: Any = Model.model_fields[key.split(".")[0]]
    return f": {found.description}"


def warnings_of(project: Project) -> list[Problem]:
    """Return what is right, but may not be what was meant."""
    found = Problems()
    for name, feed in project.feeds.items():
        claims = feed.sidecar == "required" if feed.source is None else feed.source.claims
        if feed.ahead_days and not claims:
            said = (
                f"feeds.{name}.ahead_days: history without a claim counts as known {feed.ahead_days} days before its "
                "day. If it was not, models learn from what they will not have: deliver sidecars that say when each "
                "file came, or lower ahead_days"
            )
            found.add_keys(project.folder / "project.yaml", [said])
    return found.problems


def _check_expectations(file: Path, raw: Mapping[str, Any], config: Project | None, found: Problems) -> None:
    if config is None:
        found.yaml(file)
        return
    from include.quality.expectations import read_expectations  # takes 5 s
    from include.quality.suites import Suites

    expectations, wrong = read_expectations(config)
    broken = _names(raw, "feeds") - set(config.feeds)  # they are there, and project.yaml is wrong about them
    found.add(file, [line for line in wrong if not any(f"no feed {name!r}" in line for name in broken)])
    found.add(file, Suites(config, expectations).problems())


def _check_model(
    file: Path, raw: Mapping[str, Any], config: Project | None, columns: Mapping[str, str] | None, found: Problems
) -> None:
    declared = found.yaml(file)
    if not declared:
        return
    name, project = file.parent.name, file.parents[2].name
    wrong, model = examine(Model, declared, name=name, project=project, folder=file.parent)
    found.add_keys(file, wrong)
    there = _names(raw, "outcomes")
    if declared.get("outcome") not in there:
        found.add_keys(
            file, [f"outcome: no outcome {declared.get('outcome')!r}{nearest(str(declared.get('outcome')), there)}"]
        )
    elif model is not None and config is not None and model.outcome in config.outcomes:
        with found.refusals(file):
            model = fitted_to(model, config, file)
    if columns is not None:
        found.add_keys(file, [*_columns(declared, columns)])
    if model is not None:
        check_estimator(file.parent / "estimator.py", model, found)
    places = [path for root in project_roots() for path in root.glob(f"*/models/{name}/model.yaml")]
    if len(places) > 1:
        found.add_keys(file, [f"model {name!r} is in two folders: {', '.join(map(str, places))}; rename one folder"])


def _columns(declared: Mapping[str, Any], columns: Mapping[str, str]) -> Iterator[str]:
    """Yield a sentence for each feature column that `features.py` does not return, or returns as another kind."""
    for key, kind in (("numeric", "double"), ("categorical", "string")):
        named = declared.get(key)
        for place, name in enumerate(named if isinstance(named, list) else []):
            if name not in columns:
                right = [each for each, its in columns.items() if its == kind]
                yield f"{key}.{place}: features.py returns no column {name!r}{nearest(str(name), right)}"
            elif columns[name] != kind:
                other = "a label; list it as categorical" if kind == "double" else "a number; list it as numeric"
                yield f"{key}.{place}: {name!r} is {other}"


def _of_no_model(project: Project, files: Sequence[Path]) -> Iterator[str]:
    """Yield a sentence for each model of the page for everybody that the project has not."""
    there = [file.parent.name for file in files]
    for place, name in enumerate(project.shown_page.models if project.shown_page else ()):
        if name not in there:
            yield f"public_page.models.{place}: there is no model {name!r}{nearest(name, there)}"


def _owners(files: Sequence[Path]) -> dict[str, str]:
    """Map each model to its owner, also where its file is wrong in other places."""
    owners = {file.parent.name: "" for file in files}
    for file in files:
        with suppress(ConfigError):
            owners[file.parent.name] = str(read_yaml(file).get("owner") or "")
    return owners


def _names(raw: Mapping[str, Any], key: str) -> set[str]:
    declared = raw.get(key)
    return {str(name) for name in declared} if isinstance(declared, dict) else set()
