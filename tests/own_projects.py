"""Projects of the tests: what tests of the product work with, so that they need no project that ships with it.

They are found as those of a team are, by `NIGHTLY_PROJECTS`. A test of the product names none that ships.
"""

import os
from pathlib import Path

FOLDER = Path(__file__).parent / "projects"


def use_own_projects() -> None:
    """Let this process and those that it starts find the projects of the tests."""
    os.environ["NIGHTLY_PROJECTS"] = str(FOLDER)
    import include.projects  # reads the variable when it is imported, which may have been before

    if str(FOLDER) not in include.projects.__path__:
        include.projects.__path__.append(str(FOLDER))
