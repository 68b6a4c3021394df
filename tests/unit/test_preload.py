"""What Airflow's processes import before they fork tasks (`tools/airflow_local_settings.py`)."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tools import airflow_local_settings
from tools.stack import ROOT

FORKED = """
import os, sys
from pathlib import Path
import airflow_local_settings as settings
bundle = settings.only_bundle()
LIBRARIES = Path("more/site-packages")
LIBRARIES.mkdir(parents=True)
sys.path.append(str(LIBRARIES))
settings.needed = lambda *_: ["include.answers"]
exec(sys.argv[2])
settings.preload("scheduler")
exec(sys.argv[1])
if pid := os.fork():
    raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
print("preloaded" if "include.answers" in sys.modules else "not there")
sys.path.append(str(bundle))
import include.answers
print(include.answers.ANSWER)
"""


LOCAL = "airflow.dag_processing.bundles.local.LocalDagBundle"


def run_python(program: str, bundle: Path, folder: Path, *arguments: str) -> str:
    """Run Python outside the checkout with one bundle, as Airflow does; return what it prints."""
    bundles = [{"name": "b", "classpath": LOCAL, "kwargs": {"path": str(bundle)}}]
    setting = {"AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(bundles)}
    environment = os.environ | {"PYTHONPATH": str(ROOT / "tools")} | setting
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout


@pytest.fixture
def ask(tmp_path: Path) -> Callable[..., str]:
    """Return a function that makes a bundle, preloads it, runs code, forks, and returns what the child says."""
    folder = tmp_path / "bundle" / "include"
    folder.mkdir(parents=True)
    (folder / "answers.py").write_text("ANSWER = 1\n", encoding="utf-8")
    (folder / "page.css").write_text("body {}", encoding="utf-8")

    def run(change: str = "", before: str = "") -> str:
        return run_python(FORKED, folder.parent, tmp_path, change, before)

    return run


SAME_TIME = """
path = bundle / "include/answers.py"
old = path.stat()
path.write_text("ANSWER = 2\\n")
os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))
for each in bundle.rglob("*.pyc"):
    each.unlink()  # it would be used for a file of the same size and time
"""


def test_a_forked_process_has_the_modules_already(ask: Callable[..., str]) -> None:
    assert ask() == "preloaded\n1\n"


@pytest.mark.parametrize(
    ("change", "answer"),
    [
        ("(bundle / 'include/answers.py').write_text('ANSWER = 2345')", 2345),
        ("(bundle / 'include/page.css').write_text('body { margin: 0 }')", 1),
        ("(bundle / 'include/another.py').touch()", 1),
        ("(bundle / 'include/page.css').unlink()", 1),
        ("(bundle / 'plugins/nightly_pages').mkdir(parents=True); (bundle / 'plugins/nightly_pages/a.py').touch()", 1),
        (SAME_TIME, 2),
        ("(bundle / 'include/.#answers.py').symlink_to('nobody@here')", 1),
        ("settings.state_of = None", 1),
        ("(LIBRARIES / 'lightgbm-5.0.dist-info').mkdir()", 1),
    ],
)
def test_a_process_that_is_forked_after_a_change_imports_again(
    ask: Callable[..., str], change: str, answer: int
) -> None:
    assert ask(change) == f"not there\n{answer}\n"


def test_what_belongs_to_projects_is_not_looked_at(ask: Callable[..., str]) -> None:
    made = "(bundle / 'include/projects').mkdir(); (bundle / 'include/projects/project.yaml').touch()"
    assert ask(made) == "preloaded\n1\n"


def test_children_of_a_task_keep_what_it_imported(ask: Callable[..., str]) -> None:
    change = "sys.modules['dags'] = sys; (bundle / 'include/answers.py').write_text('ANSWER = 2345')"
    assert ask(change) == "preloaded\n1\n"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import nothing_of_this_name", "No module named 'nothing_of_this_name'"),
        ("import threading, time; threading.Thread(target=time.sleep, args=[5], daemon=True).start()", "python"),
        ("import polars; polars.DataFrame({'a': [1]}).lazy().select(polars.col('a').sum()).collect()", "polars"),
    ],
)
def test_code_that_fails_or_starts_a_thread_is_left_to_the_tasks(
    code: str, said: str, ask: Callable[..., str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bundle" / "include" / "answers.py").write_text(code, encoding="utf-8")
    assert ask("(bundle / 'include/answers.py').write_text('ANSWER = 4')") == "not there\n4\n"
    assert said in capfd.readouterr().err


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("def read():\n    raise OSError('no such disk')", "no such disk"),
        ("import threading, time\ndef read():\n    threading.Thread(target=time.sleep, args=[5]).start()", "python"),
    ],
)
def test_what_cannot_be_read_ahead_is_left_to_the_tasks(
    code: str, said: str, ask: Callable[..., str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bundle" / "include" / "answers.py").write_text(f"{code}\nANSWER = 5\n", encoding="utf-8")
    assert ask("", "settings.READ_AHEAD = {'include.answers': 'read'}") == "not there\n5\n"
    assert said in capfd.readouterr().err


def test_a_file_that_leads_nowhere_does_not_keep_airflow_from_starting(ask: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "bundle" / "include" / ".#answers.py").symlink_to("nobody@here")
    assert ask() == "preloaded\n1\n"


@pytest.mark.parametrize("setting", ["", "no JSON", f'[{{"name": "b", "classpath": "{LOCAL}"}}]'])
def test_airflow_starts_whatever_its_bundles_are(setting: str, ask: Callable[..., str]) -> None:
    code = f"os.environ['AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST'] = {setting!r}; settings.preload('scheduler')"
    assert ask(code).endswith("\n1\n")


@pytest.mark.parametrize(
    ("classpaths", "folder"),
    [
        (["nightly_bundle.FolderBundle"], Path("/bundle")),
        ([LOCAL], Path("/bundle")),
        ([LOCAL, LOCAL], None),
        (["airflow.providers.git.bundles.git.GitDagBundle"], None),
        ([], None),
    ],
)
def test_only_the_folder_of_a_bundle_without_neighbours_is_preloaded(
    classpaths: list[str], folder: Path | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundles = [{"name": "b", "classpath": each, "kwargs": {"path": "/bundle"}} for each in classpaths]
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", json.dumps(bundles))
    assert airflow_local_settings.only_bundle() == folder


IN_THE_SCHEDULER = """
import functools, gc, importlib, json, sys
from pathlib import Path
import deltalake, pandas, polars, sklearn.linear_model  # as the scheduler does; a fork may lose OpenBLAS's threads
from airflow_local_settings import PACKAGES, needed, only_bundle, threads
bundle, before, modules = only_bundle(), threads(), set(sys.modules)
sys.path.append(str(bundle))
for name in needed(bundle, "scheduler"):
    importlib.import_module(name)
assert "include.steps.score" in sys.modules
found = [each for each in gc.get_objects() if isinstance(each, functools._lru_cache_wrapper)]
kept = [f"{each.__module__}.{each.__name__}" for each in found
        if str(each.__module__).startswith("include.") and each.cache_info().currsize]
files = {name: getattr(sys.modules[name], "__file__", None) for name in set(sys.modules) - modules}
ours = {name: Path(file) for name, file in files.items() if file and Path(file).is_relative_to(bundle)
        and not Path(file).is_relative_to(sys.prefix)}
unknown = [name for name, file in ours.items()
           if not file.is_relative_to(bundle / PACKAGES.get(name.split(".")[0], "nowhere"))]
print(json.dumps({"kept": kept, "threads": sorted(threads() - before), "unknown": unknown}))
"""


def test_imports_in_the_scheduler_keep_nothing_start_no_thread_and_are_all_compared(tmp_path: Path) -> None:
    said = run_python(IN_THE_SCHEDULER, ROOT, tmp_path)
    assert json.loads(said.splitlines()[-1]) == {"kept": [], "threads": [], "unknown": []}
