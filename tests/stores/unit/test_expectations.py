"""The expectations of stores, on real days."""

from datetime import date

import polars as pl

from include.config.loading import load_project
from include.core import schemas
from include.operations.simulate import make_frame
from include.quality.suites import Suites

DAYS = (date(2017, 1, 24), date(2017, 11, 23))
"""An ordinary Tuesday, and Thanksgiving, which has the fewest receipts."""


def test_real_days_meet_them() -> None:
    project = load_project("stores")
    suites = Suites(project)
    for name, feed in project.feeds.items():
        typed = [
            make_frame(project, name, day)
            .select([*feed.kept])
            .with_columns(
                schemas.entity_id(project) if schemas.has_entity(project, feed) else [],
                _malformed=pl.lit(None, pl.String),
            )
            for day in DAYS
        ]
        for findings in suites.findings(name, typed):
            assert [finding for finding in findings if not finding.success] == []
