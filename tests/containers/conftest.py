"""One project of containers for all tests of this folder."""

from collections.abc import Iterator

import pytest

from tests.containers.composed import Composed, find_engine, started


@pytest.fixture(scope="session")
def composed() -> Iterator[Composed]:
    """Start all services, a worker besides, although the scheduler runs the tasks."""
    if why_not := find_engine():
        pytest.fail(f"no containers here: {why_not}")
    with started("nightly-ml-smoke", COMPOSE_PROFILES="celery") as composed:
        yield composed
