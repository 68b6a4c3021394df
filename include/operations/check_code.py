"""Try the code of a project without data: `features.py` on feeds without rows, each candidate of `estimator.py`."""

import importlib
import inspect
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import polars as pl

from include.config.model import Model
from include.core import schemas
from include.core.feeds import HORIZON
from include.core.outcomes import INCLUDED
from include.core.project import Project
from include.operations.problems import Problem, Problems

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

METHODS: Mapping[str, str] = {"binary": "predict_proba", "multiclass": "predict_proba", "quantile": "transform"}
"""What the Pipeline of a problem type must have; `predict` for the others."""

KNOWN = pl.DataFrame(
    schema={"run_date": pl.Date, "feed": pl.String, "day": pl.Date, "delivery_id": pl.String, "rows": pl.Int64}
)
"""What run dates know: nothing."""


def check_features(file: Path, project: Project | None, found: Problems) -> dict[str, str] | None:
    """Import `features.py`, and let it build features of feeds without rows.

    Args:
        file: the file.
        project: the project; None if its declaration is wrong, so that `build` cannot be tried.
        found: takes what is wrong.

    Returns:
        The kind of each feature: double or string. None if that is not known.
    """
    module = _module(file, f"include.projects.{file.parent.name}.features", found)
    if module is None or project is None:
        return None
    try:
        return _built(module, project)
    except Exception as error:  # noqa: BLE001  it runs a team's code
        found.problems.append(_problem(file, error))
        return None


def check_estimator(file: Path, model: Model, found: Problems) -> None:
    """Import `estimator.py`, and make each candidate, unfitted; without it if `model.yaml` declares all estimators."""
    if not model.needs_python:
        return
    module = _module(file, f"include.projects.{model.project}.models.{model.name}.estimator", found)
    if module is None:
        return
    method = METHODS.get(model.problem_type, "predict")
    for place, candidate in enumerate(model.candidates):
        if candidate.estimator is not None:
            continue
        key = f"candidates.{place}.params: {candidate.name}"
        try:
            estimator = module.build(candidate.params, model.numeric, model.categorical, model.seed)
            for name, values in candidate.search.ranges.items() if candidate.search else ():
                key = f"candidates.{place}.search.ranges.{name}"
                for value in values.ends:
                    tried = candidate.with_settings({name: value})
                    module.build(tried.params, model.numeric, model.categorical, model.seed)
        except (TypeError, ValueError) as error:  # as `fit` reports them
            found.add_keys(model.folder / "model.yaml", [f"{key}: {error}"])
        except Exception as error:  # noqa: BLE001  it runs a team's code
            found.problems.append(_problem(file, error))
        else:
            if not hasattr(type(estimator), "fit") or not hasattr(type(estimator), method):
                what = f"build returns a {type(estimator).__name__}, which has no fit or no {method}"
                found.add(file, [f"{file}: {key}: {what}; return a Pipeline for {model.problem_type}"])


def _module(file: Path, name: str, found: Problems) -> ModuleType | None:
    if not file.is_file():
        found.add(file, [f"{file}: is missing; write it with a function `build`"])
        return None
    try:
        module = importlib.import_module(name)
    except Exception as error:  # noqa: BLE001  it runs a team's code
        found.problems.append(_problem(file, error))
        return None
    if not callable(getattr(module, "build", None)):
        found.add(
            file, [f"{file}: has no function `build`; docs/write-features.md and docs/add-a-model.md say what it does"]
        )
        return None
    return module


def _built(module: ModuleType, project: Project) -> dict[str, str]:
    from include.features import Feeds, returned
    from include.io import spark

    with spark.job() as (session, _):
        rows = {name: _empty(session, project, name) for name in project.feeds}
        feeds = Feeds(project, rows, KNOWN)
        built: DataFrame = module.build(feeds)
        returned.require_all(built, inspect.getsource(module), feeds.made)
        kinds = dict(returned.typed(built, horizons=project.looks_ahead).dtypes)
    added = {HORIZON: "double"} if project.looks_ahead else {}  # a model may use it as a number
    return {name: kind for name, kind in kinds.items() if name not in returned.KEY} | added


def _empty(session: object, project: Project, feed: str) -> "DataFrame":
    """Return the clean rows of a feed that has none, with its outcomes."""
    from include.features.feeds import small_frame

    added = [name for name, outcome in project.outcomes.items() if outcome.feed == feed]
    if feed == project.entity.feed and project.entity.where is not None:
        added.append(INCLUDED)
    kinds = {**schemas.clean(project, project.feeds[feed]), **dict.fromkeys(added, pl.Float64())}
    return small_frame(session, pl.DataFrame(schema=kinds))  # type: ignore[arg-type]


def _problem(file: Path, error: Exception) -> Problem:
    """Return the problem of an error, at the line of the file that it came from."""
    if isinstance(error, SyntaxError) and error.filename:
        return Problem.at(Path(error.filename), error.lineno or 1, f"not Python: {error.msg}")
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    said = str(error).removeprefix(f"{file}: ").split("\n", 1)[0]
    name = "" if type(error).__module__.startswith("include.") else f"{type(error).__name__}: "
    return Problem.at(file, (lines or [1])[-1] or 1, f"{name}{said}")
