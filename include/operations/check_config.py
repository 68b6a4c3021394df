"""check_config: load every file of a project, and try every outcome and expectation, before a nightly run does.

It reads YAML files and tries outcomes and expectations on a few made-up rows. It reads no delivery, no table and no
database.
"""

from include.config.loading import load_model, load_project, model_names
from include.core import outcomes
from include.core.errors import ActionRequiredError
from include.core.project import Project


def check_config(project: str) -> list[str]:
    """Return a sentence for each thing that is wrong with a project, its models, outcomes or expectations.

    A sentence names the file, the line and what to do.
    """
    try:
        found = load_project(project)
    except ActionRequiredError as error:
        return error.lines
    problems = []
    for model in model_names(project):
        try:
            load_model(model)
        except ActionRequiredError as error:
            problems += error.lines
    problems += outcomes.problems(found)
    try:
        problems += _expectations(found)
    except ActionRequiredError as error:
        problems += error.lines
    return problems


def _expectations(project: Project) -> list[str]:
    from include.quality.suites import Suites  # takes 5 s

    return Suites(project).problems()
