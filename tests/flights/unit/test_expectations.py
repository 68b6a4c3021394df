"""The expectations of flights, on real days."""

import logging
import warnings
from datetime import date

import polars as pl
import pytest

from include.config.loading import load_project
from include.core import schemas
from include.operations.simulate import make_frame
from include.quality.suites import Suites

DAYS = (date(2013, 1, 1), date(2013, 3, 4))


def test_real_days_meet_them_without_output(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """No log lines, progress bars or warnings (a regular expression with groups would warn for each delivery)."""
    caplog.set_level(logging.INFO)
    project = load_project("flights")
    suites = Suites(project)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
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
                assert all(finding.success for finding in findings)
    assert [record.getMessage() for record in caplog.records] == []
    assert capfd.readouterr() == ("", "")
