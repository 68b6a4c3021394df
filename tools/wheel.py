"""`make wheel` and `make deploy`: build the wheel of a commit, which Databricks runs, and upload it.

It is built from the commit, without uncommitted changes, and its version contains the commit, so that the same name
always has the same content. An existing wheel is not overwritten.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from io import BytesIO
from pathlib import Path
from typing import Annotated

import fsspec
import httpx
import typer

from include import __version__
from include.core.names import COMMIT_LENGTH, wheel, wheel_requirements, wheel_version
from include.core.settings import project_folders
from include.io.landing import write_whole
from tools.console import console_for_people
from tools.supply.lock import locked, needed_for

ROOT = Path(__file__).resolve().parents[1]
DIST = ROOT / "dist"
FILES = "/api/2.0/fs/files"
# Below a requirement, requirements.txt has its hashes, and the packages that need it, indented.
REQUIREMENT = re.compile(r"(?P<requirement>(?P<name>[\w.-]+)(\[[\w,.-]+\])?==.*?)(?: \\)?$")

console = console_for_people(stderr=True)
app = typer.Typer(help=__doc__.split("\n\n")[0], no_args_is_help=True, add_completion=False)


@app.command()
def build(commit: str = "HEAD", out: Path = DIST) -> Path:
    """Build the wheel of a commit into a folder, and print where it is."""
    full = _resolve(commit)
    target = out / wheel(full)
    with tempfile.TemporaryDirectory(prefix="nightly-wheel-") as folder:
        source = Path(folder)
        _extract(full, source, "pyproject.toml", "requirements.txt", "LICENSE", "include")
        _extract(f"{full}:plugins", source, "nightly_pages")
        _add_projects(full, source / "include" / "projects")
        _leave_out_example_data(source)
        _edit(source / "include" / "__init__.py", f'"{__version__}"', f'"{wheel_version(full)}"')
        shutil.copy(source / "requirements.txt", source / "include")  # a fit stores the digest of this file
        for name, requirements in _locked(source).items():
            pinned = "".join(f'    "{requirement}",\n' for requirement in requirements)
            _edit(source / "pyproject.toml", f'    "{name}",\n', pinned)
        made = source / "dist"
        command = [sys.executable, "-m", "uv", "build", "--quiet", "--wheel", "--no-build-isolation", "--offline"]
        # files in the archive get the time of the commit, so that equal content gives equal bytes
        moment = _git("show", "--no-patch", "--format=%ct", full).decode().strip()
        environment = os.environ | {"SOURCE_DATE_EPOCH": moment, "VIRTUAL_ENV": sys.prefix}
        subprocess.run([*command, "--out-dir", str(made), str(source)], check=True, env=environment)
        out.mkdir(parents=True, exist_ok=True)
        shutil.copy(made / target.name, target)
    typer.echo(target)
    return target


@app.command()
def deploy(
    target: Annotated[str, typer.Argument(help="/Volumes/… , s3://… or a folder")], commit: str = "HEAD"
) -> None:
    """Build the wheel of a commit and put it below a target, unless it is there already."""
    full = _resolve(commit)
    made = build(full)
    place = f"{target.rstrip('/')}/{made.name}"
    put = _into_volume if target.startswith("/Volumes/") else _into_storage
    put(made, place)
    listed = made.with_name(wheel_requirements(full))
    listed.write_text(hashed_requirements(full, made, place), encoding="utf-8")
    put(listed, f"{target.rstrip('/')}/{listed.name}")
    console.print(f"{place} is what Databricks runs for commit {full[:COMMIT_LENGTH]}")


def hashed_requirements(commit: str, made: Path, place: str) -> str:
    """Return what Databricks installs: the wheel at its place, and all packages that it needs, each with its hashes.

    A wheel's own requirements cannot have hashes. pip compares every package as soon as one line has one.
    """
    with tempfile.TemporaryDirectory(prefix="nightly-wheel-") as folder:
        _extract(commit, Path(folder), "pyproject.toml", "requirements.txt")
        declared = tomllib.loads((Path(folder) / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        lock = locked(Path(folder) / "requirements.txt")
    lines = [str(each) for name in needed_for(declared["dependencies"], lock) for each in lock[name]]
    digest = hashlib.sha256(made.read_bytes()).hexdigest()
    return "\n".join([*lines, f"{place} \\\n    --hash=sha256:{digest}", ""])


def _resolve(commit: str) -> str:
    return _git("rev-parse", "--verify", f"{commit}^{{commit}}").decode().strip()


def _extract(commit: str, target: Path, *paths: str) -> None:
    """Write what a commit, or a folder of it, has below these paths into a folder."""
    with tarfile.open(fileobj=BytesIO(_git("archive", "--format=tar", commit, *paths))) as tar:
        tar.extractall(target, filter="data")


def _add_projects(commit: str, target: Path) -> None:
    """Add the projects in the folders of `NIGHTLY_PROJECTS` to those of the product, as the commit has them."""
    for folder in project_folders():
        if not folder.resolve().is_relative_to(ROOT):
            raise SystemExit(
                f"NIGHTLY_PROJECTS names {folder}, which is outside of this repository. A wheel is built from a "
                "commit: move the folder into your clone of the product and commit it"
            )
        below = str(folder.resolve().relative_to(ROOT))
        if not _git("ls-tree", "--name-only", commit, below):
            raise SystemExit(f"commit {commit[:COMMIT_LENGTH]} has no folder {below}, which NIGHTLY_PROJECTS names")
        tree = f"{commit}:{below}"
        for project in _git("ls-tree", "-d", "-z", "--name-only", tree).decode().split("\0")[:-1]:
            if (target / project).exists():
                raise SystemExit(f"project {project!r} is in two folders; rename one of them")
            _extract(tree, target, project)


def _locked(source: Path) -> dict[str, list[str]]:
    """Return each dependency of the wheel with its locked version, so that fits there are equal to fits here.

    The lock may have several versions of a package, each with the Pythons or systems that it is for.
    """
    declared = tomllib.loads((source / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    locked: dict[str, list[str]] = {}
    for line in (source / "requirements.txt").read_text(encoding="utf-8").splitlines():
        if found := REQUIREMENT.match(line):
            locked.setdefault(found["name"], []).append(found["requirement"])
    return {name: locked[name] for name in declared}


def _edit(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    if old not in text:
        raise SystemExit(f"{file.name} of this commit has no {old.strip()}; build it with the tools of its own commit")
    file.write_text(text.replace(old, new, 1), encoding="utf-8")


def _leave_out_example_data(source: Path) -> None:
    """Remove what makes deliveries of example projects: nothing on Databricks calls it."""
    for file in (source / "include").rglob("simulate.py"):
        file.unlink()


def _into_volume(made: Path, place: str) -> None:
    try:
        host, token = os.environ["DATABRICKS_HOST"], os.environ["DATABRICKS_TOKEN"]
    except KeyError as error:
        raise SystemExit(
            f"{error.args[0]} is not set; set DATABRICKS_HOST (the workspace) and DATABRICKS_TOKEN (it may write there)"
        ) from error
    with httpx.Client(base_url=host.rstrip("/"), headers={"Authorization": f"Bearer {token}"}, timeout=300) as client:
        answer = client.put(f"{FILES}{place}", params={"overwrite": "false"}, content=made.read_bytes())
        if answer.status_code == httpx.codes.CONFLICT:
            _say_it_is_there(place)
        elif answer.is_error:
            raise SystemExit(f"{place} was not uploaded: {answer.status_code} {answer.text[:500]}")


def _into_storage(made: Path, place: str) -> None:
    filesystem, path = fsspec.url_to_fs(place)
    if filesystem.exists(path):
        _say_it_is_there(place)
    else:
        write_whole(filesystem, path, made.read_bytes())


def _say_it_is_there(place: str) -> None:
    console.print(f"{place} exists already and is kept: a version never gets other content")


def _git(*arguments: str) -> bytes:
    return subprocess.run(["git", "-C", str(ROOT), *arguments], check=True, stdout=subprocess.PIPE).stdout


if __name__ == "__main__":
    app()
