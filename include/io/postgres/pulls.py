"""The audit of data that is pulled to laptops, in the database of the installation that it is pulled from."""

from dataclasses import dataclass

import sqlalchemy as sa

from include.core.errors import ActionRequiredError
from include.core.interval import Interval
from include.core.settings import Settings
from include.io.postgres.connection import engine

_UNUSABLE = "Do not use them: empty this installation (make reset), and pull again"


@dataclass(frozen=True)
class Pull:
    """A pull that was entered, and the fingerprint of the keys that its rows are hashed with there."""

    pull_id: str
    fingerprint: str


def begin_pull(production: Settings, project: str, days: Interval, fraction: float, by: str, why: str) -> Pull:
    """Enter a pull, before anything is read.

    Raises:
        ActionRequiredError: the login may not, nothing of the project was landed there, its key is being rotated, or an
            erasure there is not finished.
    """
    asking = sa.text(
        "SELECT pull::text, fingerprint FROM begin_pull(:project, :first, :last, :fraction, :by, :why)"
    ).bindparams(project=project, first=days.start, last=days.end, fraction=fraction, by=by, why=why)
    return Pull(*_ask(production, asking, "so nothing was read"))


def end_pull(production: Settings, pull: Pull, rows: int) -> str:
    """Enter how many rows a pull took; return the fingerprint of the keys by now.

    Raises:
        ActionRequiredError: as `begin_pull`. The rows are not to be used.
    """
    asking = sa.text("SELECT end_pull(CAST(:pull AS uuid), :rows)").bindparams(pull=pull.pull_id, rows=rows)
    [fingerprint] = _ask(production, asking, f"after its rows were read. {_UNUSABLE}")
    return str(fingerprint)


def _ask(production: Settings, asking: sa.TextClause, so: str) -> tuple[str, ...]:
    try:
        with engine(production).begin() as connection:
            return tuple(connection.execute(asking).one())
    except sa.exc.DBAPIError as error:
        said = str(error.orig).splitlines()[0] if str(error.orig).strip() else type(error.orig).__name__
        raise ActionRequiredError(
            f"the pull could not be entered into the audit of the other installation ({said}), {so}. "
            "Its database needs this version's migrations, and a login of the role ops_reader: docs/security.md"
        ) from None
