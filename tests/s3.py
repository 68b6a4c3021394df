"""S3 for tests: moto's server, and settings with places in a bucket of their own."""

import itertools
import os
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import SecretStr

from include.core.settings import Settings
from tests.servers import serving
from tools.s3 import TOKEN, TOKEN_HEADER
from tools.stack import s3_server

KEYS = {
    "AWS_ACCESS_KEY_ID": "PLANTEDACCESSKEYID",
    "AWS_SECRET_ACCESS_KEY": "plantedSecretAccessKey/4f1c",
    "AWS_SESSION_TOKEN": "plantedSessionToken/9e27",
}

_numbers = itertools.count()


@contextmanager
def server(token: str | None = None) -> Iterator[str]:
    """Start an S3 server, yield its URL, and end it with its content after the block.

    With a token it serves only requests that have it, as that of a local stack.
    """
    environment = os.environ | ({TOKEN: token} if token else {})
    with serving(s3_server, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as (port, _):
        yield f"http://127.0.0.1:{port}"


def bucket(endpoint: str) -> str:
    """Create a new bucket and return its name."""
    name = f"bucket-{next(_numbers)}"
    headers = {TOKEN_HEADER: KEYS["AWS_SESSION_TOKEN"]}
    urllib.request.urlopen(urllib.request.Request(f"{endpoint}/{name}", method="PUT", headers=headers)).close()
    return f"s3://{name}"


def on_s3(settings: Settings, endpoint: str) -> Settings:
    """Return the same settings with places in a bucket of their own."""
    uri = bucket(endpoint)
    places = {name: f"{uri}/{name}" for name in ("landing", "tables", "artifacts", "journal")}
    options = KEYS | {"AWS_ENDPOINT_URL": endpoint, "AWS_REGION": "eu-west-1"}
    return settings.model_copy(
        update={**places, "storage_options": {name: SecretStr(value) for name, value in options.items()}}
    )
