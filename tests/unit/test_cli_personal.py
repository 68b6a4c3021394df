"""What the commands about personal data say before they reach a database."""

import pytest
from typer.testing import CliRunner

from include.cli import app
from include.core.errors import ActionRequiredError

PULL = ["pull", "--project", "ferries", "--start", "2013-03-01", "--end", "2013-03-02", "--entity-fraction", "0.01"]


def run(monkeypatch: pytest.MonkeyPatch, *options: str) -> None:
    monkeypatch.setattr("include.cli_personal.load_project", lambda name: None)
    for name in ("LANDING", "TABLES", "ARTIFACTS", "JOURNAL", "DATABASE_URL", "MLFLOW_TRACKING_URI", "HASH_KEY"):
        monkeypatch.setenv(f"NIGHTLY_{name}", "here")
    CliRunner().invoke(app, [*PULL, "--by", "dan", "--why", "a test", *options], catch_exceptions=False)


def test_pull_names_the_variables_that_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIGHTLY_PRODUCTION_TABLES", "there")
    missing = "NIGHTLY_PRODUCTION_JOURNAL, NIGHTLY_PRODUCTION_DATABASE_URL"
    with pytest.raises(ActionRequiredError, match=missing):
        run(monkeypatch)


def test_pull_does_not_print_options_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TABLES", "JOURNAL", "DATABASE_URL"):
        monkeypatch.setenv(f"NIGHTLY_PRODUCTION_{name}", "there")
    monkeypatch.setenv("NIGHTLY_PRODUCTION_STORAGE_OPTIONS", "AWS_SECRET_ACCESS_KEY=planted")
    with pytest.raises(ActionRequiredError, match="must be JSON") as refused:
        run(monkeypatch)
    assert "planted" not in str(refused.value)
    assert refused.value.__cause__ is None and refused.value.__context__ is None
