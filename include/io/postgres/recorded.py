"""What an installation recorded, for `cli plan`: prepared days, costs of steps, champions and published days.

It reads views only, in a transaction that cannot write, so the login of an operator (`ops_reader`) is enough.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date

import sqlalchemy as sa

from include.io.postgres.connection import impatient_engine

COSTS = """
SELECT step, model, count(*) AS runs,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY core_seconds / (interval_end - interval_start + 1)) AS core_seconds,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds / (interval_end - interval_start + 1)) AS seconds
FROM step_history WHERE project = :project AND state = 'success' AND core_seconds IS NOT NULL
GROUP BY step, model
"""
DAYS = """
SELECT s.day, {digest} AS config_digest FROM prepared_day_status s {joined}
WHERE s.project = :project AND s.data_view = 'point_in_time' ORDER BY s.day
"""
JOINED = "LEFT JOIN prepared_day_digests d ON (d.project, d.day, d.data_view) = (s.project, s.day, s.data_view)"
CHAMPIONS = """
SELECT DISTINCT ON (model) model, model_version, trained_day FROM promotion_history
WHERE model = ANY(:models) ORDER BY model, from_day DESC, id DESC
"""
PUBLISHED = """
SELECT model, day, model_version FROM (
    SELECT DISTINCT ON (model, day) model, day, model_version FROM publication_history
    WHERE model = ANY(:models) ORDER BY model, day, id DESC
) newest WHERE model_version IS NOT NULL ORDER BY model, day
"""


@dataclass(frozen=True)
class StepCost:
    """The medians of the recorded runs of a step, for each day that it handled."""

    core_seconds: float
    seconds: float
    runs: int


@dataclass(frozen=True)
class Installation:
    """What was recorded about a project.

    Attributes:
        revision: the newest migration of the database; None if it is older than the view that says so.
        days: each prepared day, with the digest of what made its features; None if that was not recorded.
        costs: of each step, by its name, or by model and name as in `late_ferry.fit`.
        champions: the newest champion of each model, and the run date of its training.
        published: the version that readers see of each day, by model.
    """

    revision: str | None
    days: Mapping[date, str | None]
    costs: Mapping[str, StepCost]
    champions: Mapping[str, tuple[int, date | None]] = field(default_factory=dict)
    published: Mapping[str, Mapping[date, int]] = field(default_factory=dict)


def read_installation(url: str, project: str, models: list[str]) -> Installation:
    """Return what was recorded about a project. It gives up after seconds if the database does not answer.

    Args:
        url: of the shared database.
        project: its name.
        models: the names of its models.
    """
    made = impatient_engine(url).execution_options(postgresql_readonly=True, isolation_level="REPEATABLE READ")
    of_project, of_models = {"project": project}, {"models": models}
    with made.connect() as connection:
        is_new = connection.scalar(sa.text("SELECT to_regclass('schema_revision') IS NOT NULL"))
        revision = connection.scalar(sa.text("SELECT revision FROM schema_revision")) if is_new else None
        statement = DAYS.format(digest="d.config_digest" if is_new else "NULL", joined=JOINED if is_new else "")
        published: dict[str, dict[date, int]] = {}
        for model, day, version in connection.execute(sa.text(PUBLISHED), of_models):
            published.setdefault(model, {})[day] = version
        return Installation(
            revision=revision,
            days={row.day: row.config_digest for row in connection.execute(sa.text(statement), of_project)},
            costs={
                f"{row.model}.{row.step}" if row.model else row.step: StepCost(row.core_seconds, row.seconds, row.runs)
                for row in connection.execute(sa.text(COSTS), of_project)
            },
            champions={
                row.model: (row.model_version, row.trained_day)
                for row in connection.execute(sa.text(CHAMPIONS), of_models)
            },
            published=published,
        )
