"""A stack for drills: a copy of the bundle with short timeouts, a short history with a champion, and a webhook.

Each drill starts from the same state of all places, and causes its failure there.
"""

import html
import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

from include.config.loading import load_project
from include.core.interval import Interval
from include.core.settings import Settings
from tests.drills.pages import Page, matches
from tools import demo
from tools.postgres import Postgres
from tools.stack import ROOT, Stack

PROJECT, MODEL = load_project("flights"), "late_arrival"
PREPARE, TRAIN, SCORE, MONITOR = (
    f"{PROJECT.name}_prepare",
    f"{MODEL}_train",
    f"{MODEL}_score",
    f"{PROJECT.name}_monitor",
)
SIMULATE, BACKFILL_RANGE, OTHER_SCORE = (
    f"{PROJECT.name}_simulate",
    f"{PROJECT.name}_backfill_range",
    "arrival_delay_score",
)

ROLLBACK = f"{MODEL}_rollback"

HISTORY = Interval(start=date(2013, 1, 1), end=date(2013, 2, 14))  # the training of its last day passes the gate
BEFORE = date(2013, 2, 15)
RUN_DATE = date(2013, 2, 16)
"""The run date of the pages."""

BUNDLE = ("dags", "include", "plugins", "tools", "docs", "requirements.txt", ".airflowignore")
SOONER = {
    "dags/common.py": {
        '"retry_delay": timedelta(seconds=30)': '"retry_delay": timedelta(seconds=1)',
        '"poke_interval": timedelta(seconds=20)': '"poke_interval": timedelta(seconds=3)',
        '"timeout": timedelta(hours=12)': '"timeout": timedelta(seconds=45)',
    },
    "dags/score.py": {
        "**nightly(project, model.owner, data=params.data(), version=params.version(), publish=params.publish())": (
            "**(nightly(project, model.owner, data=params.data(), version=params.version(), publish=params.publish()) "
            '| ({"dagrun_timeout": __import__("datetime").timedelta(seconds=20)} if "delay" in model.name else {}))'
        ),
    },
}
"""The changes in the copy: for each file, each old text and its replacement."""

PLACES = ("landing", "tables", "artifacts", "journal")
DATABASES = ("nightly", "mlflow")
SECONDS = 900


class Receiver(ThreadingHTTPServer):
    """The webhook: answers with `status`, and keeps the texts that it accepted."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status = 200
        self.texts: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/services/T000/drills"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        text = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"]
        if self.server.status == 200:
            self.server.texts.append(html.unescape(text))
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


class Drill:
    """The stack, with the actions of suppliers, of users and of on-call."""

    project = PROJECT

    def __init__(self, folder: Path) -> None:
        self.bundle = folder / "bundle"
        self.webhook = Receiver()
        self._kept = folder / "kept"
        self._originals: dict[Path, str] = {}
        threading.Thread(target=self.webhook.serve_forever, daemon=True).start()

    def start(self) -> None:
        """Make the bundle, a history, a first champion and its published scores, and keep this state."""
        self.install(SOONER)
        days = f"--project {PROJECT.name} --start {HISTORY.start} --end"
        self.type("python -m include.cli migrate")
        self.type(f"python -m include.cli simulate {days} {BEFORE}")
        self.type(f"python -m include.cli prepare {days} {BEFORE}")
        self.send_alerts()
        self.unpause({PREPARE, TRAIN, SCORE, MONITOR, SIMULATE, BACKFILL_RANGE, OTHER_SCORE, ROLLBACK})
        self.run_date(TRAIN, HISTORY.end, "success")
        self.type(f"python -m include.cli score --model {MODEL} --start {BEFORE}")
        self.type(f"python -m include.cli publish --model {MODEL} --start {BEFORE}")
        self.run_date(TRAIN, BEFORE, "success")
        self._keep()

    def install(
        self,
        changes: Mapping[str, Mapping[str, str]],
        *,
        settings: Mapping[str, str] | None = None,
        mlflow: bool = False,
        without: Sequence[str] = (),
    ) -> None:
        """Copy the bundle, change files of the copy for good, and start a stack with it.

        Args:
            changes: for each file, each old text and its replacement.
            settings: more environment variables for Airflow.
            mlflow: serve MLflow's pages, too.
            without: folders and files that the copy lacks.
        """
        self.bundle.mkdir(parents=True)
        ignored = shutil.ignore_patterns("__pycache__", *without)
        for name in BUNDLE:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, self.bundle / name, ignore=ignored)
            else:
                shutil.copy(ROOT / name, self.bundle / name)
        for name, texts in changes.items():
            for old, new in texts.items():
                self.change(name, old, new)
        self._originals.clear()
        self.stack = Stack(self.bundle / ".local", bundle=self.bundle, settings=settings)
        self.stack.start(schedule=False, mlflow=mlflow)
        self._client = self.stack.api()

    def send_alerts(self) -> None:
        """Let Airflow send its messages to the webhook."""
        alerts = {"nightly_alerts": {"conn_type": "generic", "password": self.webhook.url}}
        (self.bundle / ".local" / "alerts.json").write_text(json.dumps(alerts), encoding="utf-8")
        self.type("airflow connections import .local/alerts.json")

    def stop(self) -> None:
        self.webhook.shutdown()
        self.webhook.server_close()
        self.stack.stop()

    # the state before a drill

    def begin(self, *, prepared: bool = False) -> None:
        """Restore the state before the run date, or with the run date prepared, and undo changes of the bundle."""
        self.undo()
        self.webhook.status = 200
        self.webhook.texts.clear()
        for place in PLACES:
            shutil.rmtree(self.stack.home / place)
            shutil.copytree(self._kept / place, self.stack.home / place)
        for name in DATABASES:
            self.sql(f"DROP DATABASE {name} WITH (FORCE);")
            self.sql(f"CREATE DATABASE {name} TEMPLATE {name}_kept OWNER {name};")
        for dag_id in (PREPARE, TRAIN, SCORE, MONITOR, SIMULATE, BACKFILL_RANGE, OTHER_SCORE, ROLLBACK):
            for run in self._get(f"/dags/{dag_id}/dagRuns?limit=100")["dag_runs"]:
                self._answer(self._client.delete(f"/api/v2/dags/{dag_id}/dagRuns/{run['dag_run_id']}"))
        if prepared:
            self.supply()
            self.type(f"python -m include.cli prepare --project {PROJECT.name} --start {RUN_DATE}")

    def wipe(self) -> None:
        """Remove everything except landing: tables, models, the shared database and MLflow's."""
        for place in ("tables", "artifacts"):
            shutil.rmtree(self.stack.home / place)
            (self.stack.home / place).mkdir()
        for name in DATABASES:
            self.sql(f"DROP DATABASE {name} WITH (FORCE);")
        self.stack.postgres()  # creates what is missing

    def supply(self, day: date = RUN_DATE) -> None:
        """Deliver the files of a day, as the suppliers do."""
        self.type(f"python -m include.cli simulate --project {PROJECT.name} --start {day}")

    def change(self, name: str, old: str, new: str) -> None:
        """Change a file of the bundle."""
        path = self.bundle / name
        text = path.read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{name}: {text.count(old)} times {old!r}"
        self._originals.setdefault(path, text)
        path.write_text(text.replace(old, new), encoding="utf-8")

    def undo(self) -> None:
        """Undo all changes of the bundle."""
        for path, text in self._originals.items():
            path.write_text(text, encoding="utf-8")
        self._originals.clear()

    def sql(self, statement: str, database: str = "postgres") -> str:
        """Run a statement as the server's superuser."""
        return self._server.query(statement, database)

    @cached_property
    def _server(self) -> Postgres:
        return self.stack.postgres()  # which creates what is missing each time

    def landed(self, feed: str) -> Path:
        """Return the file of the run date for a feed."""
        [path] = (self.stack.home / "landing" / PROJECT.name / feed / str(RUN_DATE)).glob("*.csv.gz")
        return path

    @property
    def settings(self) -> Settings:
        return demo.settings_of(self.stack)

    # runs

    def run_date(self, dag_id: str, day: date = RUN_DATE, ends: str = "failed") -> str:
        """Start the run of a day, wait until it ends, and return its id. A scheduled id has no `manual__`."""
        run_id = self.trigger(dag_id, day)
        assert self.ended(dag_id, run_id) == ends, self.tasks(dag_id, run_id)
        return run_id

    def trigger(self, dag_id: str, day: date = RUN_DATE) -> str:
        moment = self.project.cutoff_at(day)
        return self.run(dag_id, f"manual__{moment.isoformat()}", logical_date=moment.isoformat())

    def run(self, dag_id: str, run_id: str, *, logical_date: str | None = None, **conf: str) -> str:
        body = {"dag_run_id": run_id, "logical_date": logical_date, "conf": conf}
        self._answer(self._client.post(f"/api/v2/dags/{dag_id}/dagRuns", json=body))
        return run_id

    def clear(self, dag_id: str, task_id: str) -> str:
        """Clear a task of the run and all tasks after it; return the state in which the run ends."""
        run_id = f"manual__{PROJECT.cutoff_at(RUN_DATE).isoformat()}"
        body = {
            "dry_run": False,
            "dag_run_id": run_id,
            "task_ids": [task_id],
            "include_downstream": True,
            "only_failed": False,
        }
        self._answer(self._client.post(f"/api/v2/dags/{dag_id}/clearTaskInstances", json=body))
        return self.ended(dag_id, run_id)

    def ended(self, dag_id: str, run_id: str) -> str:
        """Wait until a run ends; return its state."""

        def look() -> str | None:
            state = self._get(f"/dags/{dag_id}/dagRuns/{run_id}")["state"]
            return str(state) if state in ("success", "failed") else None

        return str(await_that(look, f"the end of {dag_id} {run_id}"))

    def tasks(self, dag_id: str, run_id: str) -> dict[str, str]:
        found = self._get(f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances")["task_instances"]
        return {task["task_id"]: task["state"] for task in found}

    # on-call

    def type(self, script: str, *, code: int | None = 0, variables: Mapping[str, str] | None = None) -> str:
        """Run a script in a shell that sourced `.local/env`; return its output.

        Args:
            script: the commands.
            code: the expected exit code; None for any.
            variables: more environment variables."""
        environment = {name: os.environ[name] for name in ("HOME", "PATH", "LANG") if name in os.environ}
        environment |= variables or {}
        done = subprocess.run(
            ["bash", *(["-e"] if code is not None else []), "-c", f". .local/env\n{script}"],
            cwd=self.bundle,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert code is None or done.returncode == code, f"{script}: {done.returncode}\n{done.stdout[-6000:]}"
        return done.stdout

    def alerted(self, page: str, *texts: str) -> None:
        """Wait for an alert that names this page and contains these texts."""

        def look() -> str | None:
            return next(
                (t for t in self.webhook.texts if f"docs/runbooks/{page}.md" in t and all(s in t for s in texts)), None
            )

        await_that(look, f"an alert that names {page}: {self.webhook.texts}", 60)

    def checks(self, page: str, *texts: str, given: Sequence[tuple[str, str]] = ()) -> str:
        """Run the first checks of the page; their output must have what the page quotes, and `texts`."""
        found = ""
        for script in Page(page).commands("First checks"):
            found += self.type(_here(script, given), code=None)
        for quoted in [*texts, *Page(page).seen("First checks")]:
            assert Page(page).quotes(quoted), f"{page}.md does not say {quoted!r}"
            assert matches(_here(quoted, given), found), (
                f"{quoted!r} is not in what {page}.md looks at:\n{found[-6000:]}"
            )
        return found

    def fix(self, page: str, *numbers: int, given: Sequence[tuple[str, str]] = (), **variables: str) -> str:
        """Run the commands under `Fix it` as written: all blocks, or those with these numbers."""
        scripts = Page(page).commands("Fix it")
        chosen = [scripts[n] for n in numbers] if numbers else scripts
        return "".join(self.type(_here(script, given), variables=variables) for script in chosen)

    def written(self, page: str, heading: str) -> list[str]:
        """Return the commands under another heading of a page."""
        return Page(page).commands(heading)

    def fixed(self, page: str, given: Sequence[tuple[str, str]] = ()) -> None:
        """Wait until the commands under `Fixed when` print the lines of the page."""
        [script] = Page(page).commands("Fixed when")
        wanted = [_here(line, given) for line in Page(page).seen("Fixed when")]
        assert wanted, page
        found = ""

        def look() -> bool:
            nonlocal found
            found = self.type(_here(script, given), code=None)
            return all(matches(line, found) for line in wanted)

        try:
            await_that(look, f"{page}: {wanted}", pause=1)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{found[-4000:]}") from error

    def _keep(self) -> None:
        for place in PLACES:
            shutil.copytree(self.stack.home / place, self._kept / place)
        for name in DATABASES:
            self.sql(f"CREATE DATABASE {name}_kept TEMPLATE {name} OWNER {name};")

    def unpause(self, wanted: set[str]) -> None:
        """Wait until Airflow has read these DAGs, and unpause them."""
        await_that(
            lambda: wanted <= {dag["dag_id"] for dag in self._get("/dags?limit=100")["dags"]}, f"{wanted} in Airflow"
        )
        for dag_id in wanted:
            self._answer(self._client.patch(f"/api/v2/dags/{dag_id}", json={"is_paused": False}))

    def _get(self, path: str) -> Any:
        return self._answer(self._client.get(f"/api/v2{path}")).json()

    @staticmethod
    def _answer(response: httpx.Response) -> httpx.Response:
        assert response.is_success, f"{response.request.url}: {response.text}"
        return response


def await_that(look: Callable[[], Any], what: str, seconds: float = SECONDS, pause: float = 0.3) -> Any:
    """Call `look` until it returns something true, and return that."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"timed out after {seconds:g} s: {what}"
        time.sleep(pause)
    return found


def _here(text: str, given: Sequence[tuple[str, str]]) -> str:
    """Adapt a text of a page to the drill: its runs are started by hand, and `given` has more replacements."""
    for old, new in [("scheduled__", "manual__"), *given]:
        text = text.replace(old, new)
    return text
