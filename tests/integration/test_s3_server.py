"""The S3 server of a local stack serves those who have its session token, and nobody else."""

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from include.core.settings import Settings
from include.io import postgres
from include.io.registry import Registry
from tests.integration.stranger import browse
from tests.integration.training import MODEL, train, write_all
from tests.s3 import KEYS, on_s3, server
from tools.s3 import TOKEN_HEADER

pytestmark = pytest.mark.timeout(300)

TOKEN = KEYS["AWS_SESSION_TOKEN"]


@pytest.fixture(scope="module")
def closed() -> Iterator[str]:
    """Yield the URL of a server that asks for the session token of `KEYS`."""
    with server(TOKEN) as url:
        yield url


def test_every_client_of_the_product_sends_the_token(with_mlflow: Settings, closed: str) -> None:
    """Tables are written by delta-rs, model files by boto3, and landing is listed by s3fs."""
    own = on_s3(with_mlflow, closed)
    write_all(own)
    trained = train(own)
    registry = Registry(own)
    version = registry.get_version("late_ferry", trained.model_version or 0)
    digest = postgres.model_files.read_versions(own, "late_ferry")[version.version].model_digest
    assert registry.load(version, digest, MODEL).problem_type == "binary"


def test_without_the_token_every_request_is_refused(closed: str) -> None:
    port = urlsplit(closed).port or 0
    assert [*browse("s3", port, {})] == []
    assert [*browse("s3", port, {TOKEN_HEADER: "another"})] == []
    assert len([*browse("s3", port, {TOKEN_HEADER: TOKEN})]) > 5, "the requests are right"
