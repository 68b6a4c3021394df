"""`make new-model`: the folder of a new model, ready to be trained; a data scientist goes on from there.

Columns and days are those of another model of the project; a first model takes all that `features.py` returns. Where
days with outcomes are prepared, thresholds are set by what baselines reach on them (`tools/thresholds.py`). Writes
nothing when the folder is there, or when what it would write is not a valid model.
"""

import importlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydantic import ValidationError
from ruamel.yaml import YAML

from include.cli_say import say
from include.config.loading import load_model, load_project, model_names
from include.config.model import Model
from include.core.errors import ActionRequiredError, NotReadyError, nearest
from include.core.project import Project
from include.training.problem_types import PROBLEM_TYPES
from tools.thresholds import measured, with_thresholds

TEMPLATES = Path(__file__).parent / "templates" / "model"
MODEL_SCHEMA = Path(__file__).resolve().parents[1] / "docs" / "schemas" / "model.json"
DAYS = {"train_days": 60, "validation_days": 7, "holdout_days": 14, "min_fit_days": 28}
NEXT = """wrote {folder}
Next:
  1. model.yaml: columns, candidates, thresholds of the gate; estimator.py: how it learns; README.md: the model card.
  2. After make run:
     . .local/env && python -m include.cli gate --model {name} --day <a day>
  3. make docs check test-unit, and a pull request; the DAGs {name}_train and {name}_score are there by themselves."""


def render(values: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """Return the texts of the files of a model.

    Args:
        values: DAYS, name, project, owner, outcome, problem_type, about, question, title, unit, numeric, categorical.
        folder: where they will be.
    """
    templates = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # no HTML
    )
    templates.filters["yaml"] = _in_yaml
    few = [name for name in ("is_weekend", "day_of_week", "month") if name in values["numeric"]]
    derived = {
        "classifies": values["problem_type"] in ("binary", "multiclass"),
        "slice_by": [*values["categorical"], *few, *values["numeric"]][0],
        "schema": os.path.relpath(MODEL_SCHEMA, folder),
    }
    return {
        path.stem: templates.get_template(path.name).render({**values, **derived})
        for path in sorted(TEMPLATES.glob("*.j2"))
    }


def _in_yaml(name: str) -> str:
    """Return a name as it is, or in quotes if it could be read as something else."""
    words = ("null", "true", "false", "yes", "no", "on", "off", "y", "n")
    plain = re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII) and name.lower() not in words
    return name if plain else json.dumps(name, ensure_ascii=False)


def new_model(
    project: str,
    name: str,
    outcome: str = "",
    like: str | None = None,
    projects: Path | None = None,
    problem_type: str = "",
) -> Path:
    """Write the folder; returns it. Raises `ActionRequiredError` in words, and then nothing was written."""
    config = load_project(project)
    outcome, problem_type = _require_right(config, name, outcome, problem_type)
    others = model_names(project)
    if like is not None and like not in others:
        raise ActionRequiredError(f"LIKE={like}: {project} has no such model{nearest(like, others)}")
    model = load_model(like or others[0]) if others else None
    columns = {"numeric": model.numeric, "categorical": model.categorical} if model else _columns(config)
    same = model is not None and model.outcome == outcome
    about = config.outcomes[outcome].description or outcome
    folder = (projects / project if projects else config.folder) / "models" / name
    texts = render(
        {
            **{key: getattr(model, key, default) for key, default in DAYS.items()},
            **columns,
            "name": name,
            "project": project,
            "outcome": outcome,
            "built_by": model.built_by if model else config.owner,
            "owner": model.owner if model else config.owner,
            "problem_type": problem_type or (model.problem_type if model and same else _problem_type(config, outcome)),
            "about": about,
            "title": name.replace("_", " ").capitalize(),
            "question": f"{name.replace('_', ' ').capitalize()}: {about}",
            "unit": 5,
        },
        folder,
    )
    try:
        Model.model_validate({
            **YAML(typ="safe", pure=True).load(texts["model.yaml"]),
            "name": name,
            "project": project,
            "folder": folder,
        })
    except ValidationError as error:
        wrong = error.errors()[0]
        raise ActionRequiredError(
            f"a model like {model.name if model else name} cannot be made by the templates "
            f"({'.'.join(map(str, wrong['loc']))}: {wrong['msg']}); take another by LIKE, or write the folder by hand"
        ) from error
    folder.mkdir(parents=True)
    for file in sorted(texts, key="model.yaml".__eq__):  # last the one by which a folder is a model
        (folder / file).write_text(texts[file], encoding="utf-8")
    return folder


def _require_right(config: Project, name: str, outcome: str, problem_type: str) -> tuple[str, str]:
    """Return the outcome, which is the only one if none is named, and the problem type."""
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", name):
        raise ActionRequiredError(
            f"name {name!r}: lower-case letters, digits and _, beginning with a letter, 40 at most"
        )
    if name in model_names():
        raise ActionRequiredError(
            f"there is a model {name!r} already; names are unique, since tables and DAGs have them"
        )
    if not outcome and len(config.outcomes) == 1:
        outcome = next(iter(config.outcomes))
    if outcome not in config.outcomes:
        raise ActionRequiredError(
            f"{config.folder / 'project.yaml'} has no outcome {outcome!r}{nearest(outcome, config.outcomes)}"
        )
    labels = config.outcomes[outcome].labels
    if problem_type and problem_type not in PROBLEM_TYPES:
        raise ActionRequiredError(f"TYPE={problem_type}: no such problem type{nearest(problem_type, PROBLEM_TYPES)}")
    if labels and problem_type not in ("", "multiclass"):
        raise ActionRequiredError(f"TYPE={problem_type}: outcome {outcome} has labels, so the type is multiclass")
    if problem_type == "multiclass" and not labels:
        raise ActionRequiredError(f"TYPE=multiclass: outcome {outcome} needs `labels` in project.yaml")
    return outcome, "multiclass" if labels else problem_type


def _columns(config: Project) -> dict[str, Sequence[str]]:
    """Return the columns of features of a project without a model, by letting `features.py` build them of no rows."""
    from include.operations.check_code import check_features
    from include.operations.problems import Problems

    found = Problems()
    kinds = check_features(config.folder / "features.py", config, found)
    if kinds is None:
        raise ActionRequiredError([problem.text() for problem in found.problems])
    return {
        key: [name for name, its in kinds.items() if its == kind]
        for key, kind in (("numeric", "double"), ("categorical", "string"))
    }


def _problem_type(config: Project, outcome: str) -> str:
    """An outcome that is made of 1 and 0 is a class; anything else is a number."""
    sql = config.outcomes[outcome].sql
    values = set(re.findall(r"(?:THEN|ELSE)\s+([\d.]+)", sql, flags=re.IGNORECASE))
    return "binary" if values and values <= {"0", "1", "0.0", "1.0"} else "regression"


def set_thresholds(name: str) -> list[str]:
    """Set the thresholds of a model by what baselines reach on prepared days; returns a line for each that was set.

    Raises:
        ActionRequiredError: there is no such model, or no installation.
        NotReadyError: too few days with outcomes are prepared.
    """
    importlib.invalidate_caches()  # the folder may be new
    load_model.cache_clear()
    model = load_model(name)
    file = model.folder / "model.yaml"
    text, lines = with_thresholds(file.read_text(encoding="utf-8"), measured(model))
    file.write_text(text, encoding="utf-8")
    return lines


def main(
    name: Annotated[str, typer.Option(help="of the folder, the tables and the DAGs")],
    project: Annotated[str, typer.Option(help="the folder of a project")],
    outcome: Annotated[str, typer.Option(help="an outcome of project.yaml; default: the only one")] = "",
    like: Annotated[str | None, typer.Option(help="the model whose columns and days it takes")] = None,
    problem_type: Annotated[str, typer.Option("--type", help="binary, multiclass, regression, count or quantile")] = "",
    thresholds: Annotated[bool, typer.Option(help="only set the thresholds of a model that is there")] = False,
) -> None:
    """Write the folder of a new model, or set its thresholds."""
    try:
        if not thresholds:
            folder = new_model(project, name, outcome, like or None, problem_type=problem_type)
            say(*NEXT.format(folder=os.path.relpath(folder), name=name).splitlines())
        try:
            for line in set_thresholds(name):
                say(f"threshold {line}")
        except ActionRequiredError as error:
            if thresholds:
                raise
            why = error if isinstance(error, NotReadyError) else str(error).partition("\n")[0]
            say(f"thresholds are defaults: {why}")
            say(f"Later: make new-model NAME={name} PROJECT={project} THRESHOLDS=1")
    except ActionRequiredError as error:
        say(*error.lines, error=True)
        raise typer.Exit(2) from error


if __name__ == "__main__":
    typer.run(main)
