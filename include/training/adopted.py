"""What a model that was fitted elsewhere must have in common with `model.yaml`: its input columns and its output. Pure.

Each function returns what is wrong, in sentences; an empty list if nothing is.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from include.core.errors import nearest
from include.training.config import Training

if TYPE_CHECKING:
    import pandas as pd

NUMBER, TEXT = "number", "text"


def wrong_columns(model: Training, columns: Mapping[str, str] | Sequence[str], where: str) -> list[str]:
    """Return what is wrong with the input columns that a model declares.

    Args:
        model: `model.yaml`.
        columns: the names, in order; as a mapping, with `number`, `text` or another type.
        where: what declares them.
    """
    problems = [
        f"{where} has the column {name}, and model.yaml has not{nearest(name, set(model.features) - set(columns))}"
        for name in columns
        if name not in model.features
    ]
    problems += [f"{where} lacks the column {name} of model.yaml" for name in model.features if name not in columns]
    if isinstance(columns, Mapping):
        for names, kind, key in ((model.numeric, NUMBER, "numeric"), (model.categorical, TEXT, "categorical")):
            problems += [
                f"{where} has {name} as {columns[name]}, and model.yaml as {key}"
                for name in names
                if columns.get(name, kind) != kind
            ]
    return problems


def wrong_estimator(model: Training, estimator: Any) -> list[str]:
    """Return what is wrong with the columns and the classes of an estimator, before it predicts."""
    problems, method = [], model.problem.predict_method
    if not hasattr(estimator, method):
        problems.append(f"problem_type {model.problem_type} needs the method {method}, which the estimator lacks")
    if (names := getattr(estimator, "feature_names_in_", None)) is not None:
        problems += wrong_columns(model, [str(name) for name in names], "the estimator")
    elif (count := getattr(estimator, "n_features_in_", None)) not in (None, len(model.features)):
        problems.append(f"the estimator has {count} input columns without names, and model.yaml {len(model.features)}")
    return problems + _wrong_classes(model, estimator)


def has_named_columns(estimator: Any) -> bool:
    """Return whether an estimator knows the names of its columns; otherwise only their order counts."""
    return getattr(estimator, "feature_names_in_", None) is not None


def _wrong_classes(model: Training, estimator: Any) -> list[str]:
    found = getattr(estimator, "classes_", None)
    classes: Any = None if found is None else np.asarray(found).tolist()
    if model.problem_type == "binary":
        if classes == [0, 1]:  # or floats, or false and true
            return []
        needed = "fit it on outcomes that are 0 or 1, so that it is known which one is 1"
        return [f"problem_type binary needs the classes 0 and 1, and the estimator has {_listed(classes)}: {needed}"]
    if model.problem_type == "multiclass":
        known: list[list[Any]] = [list(model.classes), list(range(len(model.classes)))]
        if classes is not None and any(all(each in labels for each in classes) for labels in known):
            return []
        labels = f"{_listed(model.classes)}; their numbers, from 0, are right too"
        return [f"the estimator has the classes {_listed(classes)}, and the labels of the outcome are {labels}"]
    if classes is not None:
        return [f"the estimator is a classifier of {_listed(classes)}, and problem_type is {model.problem_type}"]
    return []


def wrong_output(model: Training, estimator: Any, features: "pd.DataFrame") -> list[str]:
    """Return what is wrong with the scores of an estimator for prepared rows."""
    problem = model.problem
    try:
        score = problem.predict(estimator, features)
    except Exception as error:  # noqa: BLE001  # whatever an estimator raises
        said = " ".join(str(error).split())[:400]
        order = ""
        if has_named_columns(estimator) and [*estimator.feature_names_in_] != [*features.columns]:
            names = _listed(estimator.feature_names_in_)
            order = f". It was fitted on columns in another order than model.yaml has: {names}"
        return [f"it cannot score {len(features)} prepared rows: {type(error).__name__}: {said}{order}"]
    expected = np.shape(problem.repeat(problem.constant(np.zeros(2)), len(features)))
    if np.shape(score) != expected:
        return [f"it gives scores of the shape {np.shape(score)} for {len(features)} rows, not {expected}"]
    finite = np.isfinite(score).reshape(len(score), -1).all(axis=1)
    if not finite.all():
        return [f"{(~finite).sum()} of {len(score)} prepared rows get a score that is NaN or infinite"]
    if problem.scores_are_probabilities and not ((score >= 0) & (score <= 1)).all():
        return ["it gives probabilities below 0 or above 1"]
    return []


def _listed(values: Any) -> str:
    return "none" if values is None or not len(values) else ", ".join(map(str, values))
