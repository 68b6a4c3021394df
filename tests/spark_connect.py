"""A Spark Connect server for tests, and steps that use it: each in a process of its own, as a task is."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from pydantic import SecretStr

from include.core.settings import Settings
from tests.servers import serving
from tools.spark_server import SPARK_SETTINGS, spark_server, with_token
from tools.stack import ROOT

TOKEN = "the-token-of-the-test"


@contextmanager
def begun(folder: Path) -> Iterator[tuple[str, psutil.Popen]]:
    """Yield address and process of a server that asks for the token. Its Python finds no code of the product."""
    environment = os.environ | SPARK_SETTINGS | with_token(TOKEN) | {"SPARK_LOCAL_DIRS": str(folder)}
    environment.pop("PYTHONPATH", None)
    with serving(spark_server, env=environment, cwd=folder) as (port, process):
        yield f"sc://127.0.0.1:{port}", process


def run(code: str, remote: str | None, given: str = "") -> "subprocess.Popen[str]":
    """Start a process that runs code, with a server or with a Spark of its own."""
    environment = {name: value for name, value in os.environ.items() if name != "SPARK_REMOTE"}
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment | ({"SPARK_REMOTE": remote} if remote else {}),
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    process.stdin.write(given)
    process.stdin.close()
    process.stdin = None
    return process


def given_as_text(settings: Settings) -> str:
    """Return settings for `Settings.model_validate_json` in another process."""
    return json.dumps(settings.model_dump(), default=SecretStr.get_secret_value)
