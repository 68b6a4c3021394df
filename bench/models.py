"""`make bench-models`: what Airflow pays to parse the DAG files of 0, 50 and 500 models.

Each file is parsed and serialised by Airflow's own function, in a process forked from one that has imported and read
what the DAG processor and the scheduler have (`tools/airflow_local_settings.py`), and has frozen its objects as they
do. A task parses its file too, but needs only its own DAG.
"""

import gc
import importlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import typer

from bench.results import Result

ROOT = Path(__file__).parents[1]
DAGS = ROOT / "dags"
MODELS_OF_A_PROJECT = 10
LIMITS = {50: 2.0, 500: 10.0}  # core-seconds above an empty bundle


def write_projects(folder: Path, models: int) -> None:
    """Write copies of the smallest project, with ten models each."""
    for first in range(0, models, MODELS_OF_A_PROJECT):
        numbers = range(first, min(first + MODELS_OF_A_PROJECT, models))
        write_project(folder / f"project_{first // MODELS_OF_A_PROJECT:02}", numbers)


def write_project(project: Path, numbers: Iterable[int], *, simulated: bool = False) -> None:
    """Write a copy of the smallest project with a copy of its first model for each number."""
    sample = ROOT / "tests/projects/ferries"
    left_out = ("models", "__pycache__", *(() if simulated else ("simulate.py",)))
    shutil.copytree(sample, project, ignore=shutil.ignore_patterns(*left_out))
    for n in numbers:
        shutil.copytree(min((sample / "models").iterdir()), project / "models" / f"model_{n:03}")


def parse_all(*, serialised: bool) -> dict[str, float]:
    """Return the core-seconds of parsing each DAG file."""
    return {file.name: _forked(partial(_parse, file, serialised=serialised)) for file in _dag_files()}


def parse_for_task(dag_id: str, file: str) -> float:
    """Return the core-seconds that a task of a DAG needs to find it in its file."""

    def parse() -> None:
        from airflow.sdk.definitions._internal.dag_parsing_context import _airflow_parsing_context_manager

        with _airflow_parsing_context_manager(dag_id=dag_id):
            _parse(DAGS / file, serialised=False)

    return _forked(parse)


def _dag_files() -> list[Path]:
    from airflow.dag_processing.manager import list_py_file_paths  # type: ignore[attr-defined]

    return sorted(map(Path, list_py_file_paths(DAGS)))


def _parse(file: Path, *, serialised: bool) -> None:
    import structlog
    from airflow.dag_processing import processor
    from airflow.dag_processing.dagbag import BundleDagBag

    bag = BundleDagBag(dag_folder=str(file), bundle_path=DAGS, bundle_name="dags", load_op_links=False)
    if bag.import_errors:
        raise RuntimeError(bag.import_errors)
    if serialised:
        _, errors = processor._serialize_dags(bag, structlog.get_logger())
        if errors:
            raise RuntimeError(errors)


def _forked(work: Callable[[], None]) -> float:
    """Return the core-seconds of some work in a forked process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    if os.waitpid(child, 0)[1]:
        raise RuntimeError("a DAG file could not be parsed; the error is above")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(models: int, preloaded: str) -> list[float]:
    """Return core-seconds with a number of models, in a process that has imported what a service of Airflow imports.

    Returns:
        For `dag-processor`: of importing all DAG files, and of importing and serialising them. For `scheduler`: of a
        task of one model, and of one of one project, to import their file.
    """
    from include.config import loading

    sys.argv = ["airflow", preloaded]
    with tempfile.TemporaryDirectory(prefix="nightly-models-") as folder:
        write_projects(Path(folder), models)
        loading.PROJECTS = Path(folder)
        importlib.import_module("tools.airflow_local_settings")
        importlib.import_module("airflow.dag_processing.processor")
        gc.freeze()
        if preloaded == "dag-processor":
            return [sum(parse_all(serialised=each).values()) for each in (False, True)]
        tasks = {"score.py": "model_000_score", "prepare.py": "project_00_prepare"}
        return [parse_for_task(dag_id, file) for file, dag_id in tasks.items()]


def results() -> list[Result]:
    """Return the figures of 1, 50 and 500 models against the goals."""
    empty, one = _apart(0, "dag-processor"), _apart(1, "scheduler")
    found = []
    for models, limit in LIMITS.items():
        imported, serialised = (full - base for full, base in zip(_apart(models, "dag-processor"), empty, strict=True))
        found.append(
            Result(
                f"parse of the DAG files of {models} models, above those of none",
                f"{limit:.0f} core-s",
                imported,
                "core-s",
                imported <= limit,
                f"{serialised:.1f} with Airflow's serialisation",
            )
        )
        of_task = max(_apart(models, "scheduler"))
        found.append(
            Result(
                f"a task imports its DAG file beside {models} models",
                "",
                of_task / max(one),
                "times one model",
                None,
                f"{of_task:.2f} core-s",
            )
        )
    return found


def _apart(models: int, preloaded: str) -> list[float]:
    """Measure in a new interpreter."""
    command = [sys.executable, "-W", "ignore", "-m", "bench.models", "--only", f"{models}", "--preloaded", preloaded]
    with tempfile.TemporaryDirectory(prefix="nightly-models-") as home:
        bundle = {
            "name": "dags",
            "classpath": "nightly_bundle.FolderBundle",
            "kwargs": {"path": str(ROOT)},
        }
        environment = {
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps([bundle]),
            "AIRFLOW_HOME": home,
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "PYTHONPATH": f"{ROOT}:{ROOT}/plugins",
        }
        done = subprocess.run(
            command, env=os.environ | environment, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
        )
    found: list[float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main(only: int | None = None, preloaded: str = "dag-processor") -> None:
    """Print the figures, or those of one number of models as JSON."""
    if only is not None:
        typer.echo(json.dumps(measure(only, preloaded)))
        return
    for each in results():
        typer.echo(f"{each.goal}: {each.figure:.2f} {each.unit} ({each.limit or 'no goal'}; {each.note})")


if __name__ == "__main__":
    typer.run(main)
