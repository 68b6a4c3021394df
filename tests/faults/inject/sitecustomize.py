"""Kill tasks at named points. Every Python process with this folder on its PYTHONPATH imports this file first.

`FAULTS` names a folder. Its `points.json` lists the points, and a point kills while the file `<name>.armed` exists. The
process that renames the file to `<name>.struck` dies, so each point kills once, and the retry succeeds. The product
does not depend on this file, and only processes of the named Airflow task are killed.
"""

import importlib.util
import json
import os
import sys
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any

FAULTS = os.environ.get("FAULTS")
KILLING = Path(__file__).parents[2] / "killing.py"  # the bundle is not on the path of these processes yet


class AfterImport(MetaPathFinder):
    """An import hook that calls functions with a module once it is imported."""

    def __init__(self, hooks: dict[str, list[Callable[[Any], None]]]) -> None:
        self.hooks = hooks

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        if fullname not in self.hooks:
            return None
        found = (f.find_spec(fullname, path, target) for f in sys.meta_path if f is not self)
        spec = next(filter(None, found), None)
        if spec is not None and spec.loader is not None:
            original = spec.loader.exec_module

            def execute(module: Any) -> None:
                original(module)
                for hook in self.hooks[fullname]:
                    hook(module)

            spec.loader.exec_module = execute  # type: ignore[method-assign]
        return spec


def strike(name: str, task: str) -> None:
    task_of_process = os.environ.get("AIRFLOW_CTX_TASK_ID")
    if FAULTS is None or task_of_process != task:
        return
    struck = Path(FAULTS, f"{name}.struck")
    try:
        Path(FAULTS, f"{name}.armed").rename(struck)
    except FileNotFoundError:
        return  # the point is not armed, or has killed already
    names = ("DAG_ID", "TASK_ID", "DAG_RUN_ID", "TRY_NUMBER")
    struck.write_text(json.dumps({n: os.environ.get(f"AIRFLOW_CTX_{n}") for n in names}), encoding="utf-8")
    killing.end_this_process()


def retry_soon(common: Any) -> None:
    """Shorten the delay before Airflow's own retries."""
    common.DEFAULT_ARGS["retry_delay"] = timedelta(seconds=1)


if FAULTS is not None:
    spec = importlib.util.spec_from_file_location("tests_killing", KILLING)
    assert spec is not None and spec.loader is not None
    killing = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(killing)
    hooks: dict[str, list[Callable[[Any], None]]] = {"dags.common": [retry_soon]}
    for name, point in json.loads(Path(FAULTS, "points.json").read_text(encoding="utf-8")).items():
        module, _, path = point["at"].partition(":")
        hooks.setdefault(module, []).append(
            partial(
                killing.wrap,
                path=path,
                call=point["call"],
                when=point["when"],
                strike=partial(strike, name, point["task"]),
            )
        )
    sys.meta_path.insert(0, AfterImport(hooks))
