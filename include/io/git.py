"""Read files of another commit of the repository that a folder belongs to. Nothing is written into the repository."""

import io
import subprocess
import tarfile
from pathlib import Path

from include.core.errors import ActionRequiredError


def root_of(folder: Path) -> Path | None:
    """Return the top folder of the repository that a folder belongs to; None if it belongs to none.

    Raises:
        ActionRequiredError: git cannot read the repository, for example because another user owns it.
    """
    found = _git(folder, "rev-parse", "--show-toplevel")
    if found is None and any((each / ".git").exists() for each in (folder.resolve(), *folder.resolve().parents)):
        raise ActionRequiredError(
            f"git cannot read the repository of {folder}: it is not installed, or another user owns the files. Type "
            f"git -C {folder} status to see why (in a container of CI: git config --global --add safe.directory '*')"
        )
    return None if found is None else Path(found.decode().strip())


def base_of(root: Path, ref: str) -> str:
    """Return the commit with which a branch is compared: the newest one that it shares with `ref`.

    Raises:
        ActionRequiredError: the ref does not exist, or a shallow clone does not say what they share.
    """
    for name in (ref, f"origin/{ref}"):
        if (found := _git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")) is None:
            continue
        shared = _git(root, "merge-base", found.decode().strip(), "HEAD")
        if shared is None:
            raise ActionRequiredError(
                f"--against {ref}: the clone in {root} does not say which commit {ref} and HEAD share. A shallow clone "
                "lacks it: type git fetch --unshallow (in CI: fetch-depth: 0, or GIT_DEPTH: 0)"
            )
        return shared.decode().strip()
    raise ActionRequiredError(
        f"--against {ref}: the repository in {root} has no such branch, tag or commit; type git fetch origin {ref}, or "
        "name another one"
    )


def files_of(folder: Path) -> set[str]:
    """Return the files in a folder of a repository, relative to the folder, without those that git ignores."""
    found = _git(folder, "ls-files", "-z", "--cached", "--others", "--exclude-standard") or b""
    return {name for name in found.decode().split("\0") if name}


def extract(root: Path, commit: str, paths: list[Path], into: Path) -> None:
    """Write those of the paths that a commit has, below `into`, as they are in that commit.

    Args:
        root: the top folder of the repository.
        commit: its commit.
        paths: files and folders within the repository.
        into: an empty folder.
    """
    within = [str(path.resolve().relative_to(root.resolve())) for path in paths]
    there = [
        path for path in within if _git(root, "cat-file", "-e", f"{commit}:{'' if path == '.' else path}") is not None
    ]
    if not there:
        return
    packed = _git(root, "archive", "--format=tar", commit, "--", *there)
    if packed is None:
        raise ActionRequiredError(f"{root}: git archive {commit} failed; type it to see why")
    try:
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            archive.extractall(into, filter="data")
    except tarfile.TarError as error:
        raise ActionRequiredError(
            f"{root}: {commit[:12]} has a link or a special file that leads out of the repository ({error}); a plan "
            "needs plain files"
        ) from error


def _git(folder: Path, *arguments: str) -> bytes | None:
    """Return what git prints; None if it fails, or is not installed."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None
