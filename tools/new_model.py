"""`make new-model`: the folder of a new model, ready to be trained; a data scientist goes on from there.

Takes the feature columns and days of a model of the same project. Writes nothing when the folder is there, or when
what it would write is not a valid model.
"""

import os
import re
from pathlib import Path
from typing import Annotated

import typer
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydantic import ValidationError
from ruamel.yaml import YAML

from include.config.loading import load_model, load_project, model_names
from include.config.model import Model
from include.core.errors import ActionRequiredError, nearest

TEMPLATES = Path(__file__).parent / "templates" / "model"
MODEL_SCHEMA = Path(__file__).resolve().parents[1] / "docs" / "schemas" / "model.json"
NEXT = """wrote {folder}
Next:
  1. model.yaml: columns, candidates, thresholds of the gate; estimator.py: how it learns; README.md: the model card.
  2. . .local/env && python -m include.cli gate --model {name} --day <a day>   (after make run)
  3. make docs check test-unit, and a pull request; the DAGs {name}_train and {name}_score are there by themselves."""


def new_model(project: str, name: str, outcome: str, like: str | None, projects: Path | None = None) -> Path:
    """Write the folder; returns it. Raises `ActionRequiredError` in words, and then nothing was written."""
    config = load_project(project)
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", name):
        raise ActionRequiredError(
            f"name {name!r}: lower-case letters, digits and _, beginning with a letter, 40 at most"
        )
    if name in model_names():
        raise ActionRequiredError(
            f"there is a model {name!r} already; names are unique, since tables and DAGs have them"
        )
    if outcome not in config.outcomes:
        raise ActionRequiredError(
            f"{config.folder / 'project.yaml'} has no outcome {outcome!r}{nearest(outcome, config.outcomes)}"
        )
    if config.outcomes[outcome].labels:
        raise ActionRequiredError(
            f"outcome {outcome!r} has labels, and there is no template for multiclass models yet; write the folder by "
            "hand: docs/add-a-model.md, Problem types"
        )
    others = model_names(project)
    if not others:
        raise ActionRequiredError(f"{project} has no model yet whose columns could be taken; write the first by hand")
    if like is not None and like not in others:
        raise ActionRequiredError(f"LIKE={like}: {project} has no such model{nearest(like, others)}")
    model = load_model(like or others[0])
    problem_type = model.problem_type if model.outcome == outcome else _problem_type(config.outcomes[outcome].sql)
    about = config.outcomes[outcome].description or outcome
    folder = (projects / project if projects else config.folder) / "models" / name
    values = {
        **{
            key: getattr(model, key)
            for key in (
                "numeric",
                "categorical",
                "train_days",
                "validation_days",
                "holdout_days",
                "min_fit_days",
            )
        },
        "name": name,
        "project": project,
        "outcome": outcome,
        "owner": model.owner,
        "problem_type": problem_type,
        "about": about,
        "title": name.replace("_", " ").capitalize(),
        "question": f"{name.replace('_', ' ').capitalize()}: {about}",
        "unit": 5,
        "schema": os.path.relpath(MODEL_SCHEMA, folder),
    }
    templates = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # no HTML
    )
    texts = {path.stem: templates.get_template(path.name).render(values) for path in sorted(TEMPLATES.glob("*.j2"))}
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
            f"a model like {model.name} cannot be made by the templates ({'.'.join(map(str, wrong['loc']))}: "
            f"{wrong['msg']}); take another by LIKE, or write the folder by hand"
        ) from error
    folder.mkdir(parents=True)
    for file in sorted(texts, key="model.yaml".__eq__):  # last the one by which a folder is a model
        (folder / file).write_text(texts[file], encoding="utf-8")
    return folder


def _problem_type(sql: str) -> str:
    """An outcome that is made of 1 and 0 is a class; anything else is a number."""
    values = set(re.findall(r"(?:THEN|ELSE)\s+([\d.]+)", sql, flags=re.IGNORECASE))
    return "binary" if values and values <= {"0", "1", "0.0", "1.0"} else "regression"


def main(
    name: Annotated[str, typer.Option(help="of the folder, the tables and the DAGs")],
    outcome: Annotated[str, typer.Option(help="an outcome of project.yaml")],
    project: Annotated[str, typer.Option(help="the folder of a project")],
    like: Annotated[str | None, typer.Option(help="the model whose columns and days it takes")] = None,
) -> None:
    """Write the folder of a new model."""
    try:
        folder = new_model(project, name, outcome, like or None)
    except ActionRequiredError as error:
        typer.secho(str(error), fg="red", err=True)
        raise typer.Exit(2) from error
    typer.echo(NEXT.format(folder=os.path.relpath(folder), name=name))


if __name__ == "__main__":
    typer.run(main)
