"""Keep the files of a stack from the other users of the machine."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PRIVATE_UMASK = 0o077
"""The umask of everything that writes files of a stack."""


@contextmanager
def private_files() -> Iterator[None]:
    """Make whatever this process writes and starts in the block its owner's alone."""
    before = os.umask(PRIVATE_UMASK)
    try:
        yield
    finally:
        os.umask(before)


def make_private(home: Path, apart_from: Path) -> None:
    """Make a folder that only its owner may enter, or make it and all that is in it so, except `apart_from`.

    When root starts a stack, the group of the folder may pass through it: it is that of PostgreSQL's own user
    (`tools/postgres.py`).
    """
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    passing = stat.S_IXGRP if os.geteuid() == 0 else 0
    if not home.stat().st_mode & PRIVATE_UMASK & ~passing:
        return
    for folder, folders, files in os.walk(home):
        folders[:] = [name for name in folders if Path(folder, name) != apart_from]
        for path in (Path(folder), *(Path(folder, name) for name in files)):
            if not path.is_symlink():
                path.chmod(stat.S_IMODE(path.stat().st_mode) & ~PRIVATE_UMASK)
