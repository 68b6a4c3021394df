"""A step on Databricks: the worker's `Call`, the wheel's entry point that executes it, and the `answer`.

Such a step uses tables and MLflow only. The call contains what the step needs from PostgreSQL. Its record returns as
JSON beside the tables, under a unique name, and the worker writes the rows for which other steps wait to PostgreSQL.
"""

import argparse
import base64
import json
from collections.abc import Callable
from typing import Any, NamedTuple

from pydantic import ConfigDict, validate_call

from include.core.base import Record
from include.core.errors import ActionRequiredError, NotReadyError
from include.core.interval import Interval
from include.core.log_lines import log_to_stderr
from include.core.records import StepResult
from include.core.settings import NO_DATABASE, Settings
from include.io import storage
from include.io.landing import read, write_whole
from include.steps.declared import STEPS

NOT_YET = "not_yet"  # the key, in place of the result, of the reason why the step had nothing to do
NOT_THERE = {"landing": "none://", "journal": "none://", "database_url": NO_DATABASE, "hash_key": "none"}
"""Placeholders for settings that a step on Databricks does not have; a step that used one would fail."""


class Call(Record):
    """A step to run on Databricks. It contains no secret: `secrets` maps a field of `Settings` to "scope/key".

    `watermark` is the newest entry of the journal when it is submitted; it comes back in the record.
    """

    step: str
    config: str
    interval: Interval
    options: dict[str, Any]
    settings: dict[str, str]
    secrets: dict[str, str]
    record: str
    watermark: int


class Answer(NamedTuple):
    """The result of a step on Databricks, and the newest entry of the journal when it was submitted."""

    result: StepResult
    watermark: int


def main() -> None:
    """Run the step of `--call=<JSON>` and write its record. A step's own error is the last line of the trace."""
    log_to_stderr("%(asctime)s %(levelname)s %(name)s: %(message)s")
    parser = argparse.ArgumentParser()
    parser.add_argument("--call", required=True)
    call = Call.model_validate_json(parser.parse_args().call)
    secrets = {field: _secret(name) for field, name in call.secrets.items()}
    settings = Settings.model_validate({**NOT_THERE, **call.settings, **secrets})
    declared = STEPS[call.step]
    step, config = _typed(declared.function), declared.load_config(call.config)
    try:
        left: dict[str, Any] = {"result": step(config, call.interval, settings, **call.options).model_dump(mode="json")}
    except NotReadyError as error:
        left = {NOT_YET: str(error)}
    filesystem, path = storage.filesystem(settings, call.record)
    write_whole(filesystem, path, json.dumps({"watermark": call.watermark, **left}).encode())


def answer(step: str, record: str, settings: Settings) -> Answer:
    """Return what a step left in its record.

    Raises:
        NotReadyError: the step raised it.
        ActionRequiredError: there is no record.
    """
    filesystem, path = storage.filesystem(settings, record)
    content = read(filesystem, path)
    if content is None:
        raise ActionRequiredError(f"{step} succeeded on Databricks, but left no record at {record}; clear the task")
    left = json.loads(content)
    if why := left.get(NOT_YET):
        raise NotReadyError(why)
    return Answer(STEPS[step].result.model_validate_json(json.dumps(left["result"])), left["watermark"])


def _typed(function: Callable[..., StepResult]) -> Callable[..., StepResult]:
    """Let a function accept values from JSON, where a mapping by days has text as keys."""
    return validate_call(config=ConfigDict(arbitrary_types_allowed=True))(function)


def _secret(name: str) -> str:
    from databricks.sdk import WorkspaceClient  # installed on Databricks; it uses the run's own identity

    scope, _, key = name.partition("/")
    value = WorkspaceClient().secrets.get_secret(scope=scope, key=key).value
    return base64.b64decode(value or "").decode()


if __name__ == "__main__":
    main()
