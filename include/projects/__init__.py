"""Projects: a folder for each one, and in it a folder for each of its models. No product code belongs here.

A team may keep its projects elsewhere, so that an upgrade of the product is a merge without conflicts. The folders that
hold them are named by `NIGHTLY_PROJECTS`. Their modules are found as if they were here.
"""

from include.core.settings import project_folders

__path__.extend(map(str, project_folders()))
