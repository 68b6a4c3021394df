"""Projects: a folder for each one, and in it a folder for each of its models. No product code belongs here.

A team may keep its projects elsewhere, so that an upgrade of the product is a merge without conflicts. The folders that
hold them are named by `NIGHTLY_PROJECTS`, separated as in `PATH`. Their modules are found as if they were here.
"""

import os
from pathlib import Path

for folder in os.environ.get("NIGHTLY_PROJECTS", "").split(os.pathsep):
    if folder:
        __path__.append(str(Path(folder).absolute()))
