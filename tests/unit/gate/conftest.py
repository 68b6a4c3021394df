"""What the tests of the gate share."""

import pytest

from include.gate import resampling


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw few resamples of metrics, which no check compares: they cost most of the time of the gate."""
    monkeypatch.setattr(resampling, "METRIC_DRAWS", 5)
