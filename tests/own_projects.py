"""The projects of the tests. Tests of the product use these, so that they do not depend on a shipped project.

They are found through `NIGHTLY_PROJECTS`, like a team's own. No test of the product may name a shipped project.
"""

import os
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "projects"


def costs_of(problem_type: str) -> dict[str, Any]:
    """Return costs that a model of a problem type can declare."""
    from include.training.costs import KEYS

    return {"unit": "EUR", **dict.fromkeys(KEYS[problem_type], 1.0)}


def use_own_projects() -> None:
    """Make this process and its children find the projects of the tests."""
    os.environ["NIGHTLY_PROJECTS"] = str(FOLDER)
    import include.projects  # it reads the variable at import, which may already have happened

    if str(FOLDER) not in include.projects.__path__:
        include.projects.__path__.append(str(FOLDER))
