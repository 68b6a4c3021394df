"""What a fit declares, part by part, from which the semantic version of its model follows. Pure."""

import hashlib
import json
from typing import Any

from include.core.code import code_digest
from include.training.config import Training

_ELSEWHERE = {"name", "project", "folder", "numeric", "categorical", "quantiles", "classes", "candidates"}
"""Fields of `Training` that are no part, or are in a part of another name."""


def declared_parts(model: Training, outcome_sql: str, candidate: str) -> dict[str, str]:
    """Return a short digest of each part of a declaration, by the name that people know.

    A field that is added to `model.yaml` is a part of its own. Other candidates do not count.

    Args:
        model: the declaration.
        outcome_sql: how project.yaml says what the outcome is.
        candidate: the candidate that is fitted. If the model has none of this name, it was fitted elsewhere: then
            nothing counts of what decides a fit here.
    """
    fields = model.model_dump(mode="json", include=set(Training.model_fields) - _ELSEWHERE)
    contract = {
        "outcome": [fields.pop("outcome"), outcome_sql],
        "features": [sorted(model.numeric), sorted(model.categorical)],
        "problem_type": [fields.pop("problem_type"), model.quantiles, model.classes],
        "horizon_days": fields.pop("horizon_days"),
        "candidate": candidate,
    }
    of_name = [each for each in model.candidates if each.name == candidate]
    recipe: dict[str, Any] = {}
    if of_name:
        recipe = {**fields, "parameters": of_name[0].model_dump(mode="json", exclude={"name"})}
        code = model.folder / "estimator.py"
        of_code = of_name[0].estimator is None and code.exists()
        recipe["estimator.py"] = code_digest([code]) if of_code else None
    return {name: _digest(part) for name, part in {**contract, **recipe}.items()}


def _digest(part: Any) -> str:
    return hashlib.sha256(json.dumps(part, sort_keys=True).encode()).hexdigest()[:12]
