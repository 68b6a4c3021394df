"""A stack to break: a copy of the bundle that gives up sooner, a short history with a champion, and a webhook.

Each drill begins with the same state of all places, and plants its failure there.
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
REPLAY, REPROCESS, OTHER_SCORE = f"{PROJECT.name}_simulate", f"{PROJECT.name}_backfill_range", "arrival_delay_score"

HISTORY = Interval(start=date(2013, 1, 1), end=date(2013, 2, 14))  # the first day whose training the gate lets through
BEFORE = date(2013, 2, 15)
RUN_DATE = date(2013, 2, 16)
"""The night of the pages."""

BUNDLE = ("dags", "include", "plugins", "tools", "docs", "requirements.txt", ".airflowignore")
SOONER = {
    "dags/common.py": {
        '"retry_delay": timedelta(seconds=30)': '"retry_delay": timedelta(seconds=1)',
        '"poke_interval": timedelta(seconds=20)': '"poke_interval": timedelta(seconds=3)',
        '"timeout": timedelta(hours=12)': '"timeout": timedelta(seconds=45)',
    },
    "dags/score.py": {
        "**nightly(project, data=params.data(), version=params.version(), publish=params.publish())": (
            "**(nightly(project, data=params.data(), version=params.version(), publish=params.publish()) "
            '| ({"dagrun_timeout": __import__("datetime").timedelta(seconds=20)} if "delay" in model.name else {}))'
        ),
    },
}
"""What the copy does otherwise: file -> what is there -> what takes its place."""

PLACES = ("landing", "tables", "artifacts")
DATABASES = ("nightly", "mlflow")
SECONDS = 420


class Receiver(ThreadingHTTPServer):
    """The webhook: answers as `status` says, and keeps the texts that it took."""

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
    """The stack, and on-call in a shell of it."""

    def __init__(self, folder: Path) -> None:
        self.bundle = folder / "bundle"
        self.webhook = Receiver()
        self._kept = folder / "kept"
        self._originals: dict[Path, str] = {}
        threading.Thread(target=self.webhook.serve_forever, daemon=True).start()

    def start(self) -> None:
        """Bundle, history, first champion and what is published of it; that is kept."""
        self.bundle.mkdir(parents=True)
        ignored = shutil.ignore_patterns("__pycache__")
        for name in BUNDLE:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, self.bundle / name, ignore=ignored)
            else:
                shutil.copy(ROOT / name, self.bundle / name)
        for name, changes in SOONER.items():
            for old, new in changes.items():
                self.change(name, old, new)
        self._originals.clear()
        self.stack = Stack(self.bundle / ".local", bundle=self.bundle)
        self.stack.start(schedule=False)
        self._client = self.stack.api()
        days = f"--project {PROJECT.name} --start {HISTORY.start} --end"
        self.type("python -m include.cli migrate")
        self.type(f"python -m include.cli simulate {days} {BEFORE}")
        self.type(f"python -m include.cli prepare {days} {BEFORE}")
        self.type(f"airflow connections add nightly_alerts --conn-type generic --conn-password '{self.webhook.url}'")
        self._unpause()
        self.prepared_day(TRAIN, HISTORY.end, "success")
        self.type(f"python -m include.cli score --model {MODEL} --start {BEFORE}")
        self.type(f"python -m include.cli publish --model {MODEL} --start {BEFORE}")
        self.prepared_day(TRAIN, BEFORE, "success")
        self._keep()

    def stop(self) -> None:
        self.webhook.shutdown()
        self.webhook.server_close()
        self.stack.stop()

    # a state to begin with

    def begin(self, *, prepared: bool = False) -> None:
        """As before the night, or with the night prepared. What was changed of the bundle is undone."""
        self.undo()
        self.webhook.status = 200
        self.webhook.texts.clear()
        for place in PLACES:
            shutil.rmtree(self.stack.home / place)
            shutil.copytree(self._kept / place, self.stack.home / place)
        for name in DATABASES:
            self.sql(f"DROP DATABASE {name} WITH (FORCE);")
            self.sql(f"CREATE DATABASE {name} TEMPLATE {name}_kept OWNER {name};")
        for dag_id in (PREPARE, TRAIN, SCORE, MONITOR, REPLAY, REPROCESS, OTHER_SCORE):
            for run in self._get(f"/dags/{dag_id}/dagRuns?limit=100")["dag_runs"]:
                self._answer(self._client.delete(f"/api/v2/dags/{dag_id}/dagRuns/{run['dag_run_id']}"))
        if prepared:
            self.supply()
            self.type(f"python -m include.cli prepare --project {PROJECT.name} --start {RUN_DATE}")

    def wipe(self) -> None:
        """All but landing: tables, models, the shared database and MLflow's."""
        for place in ("tables", "artifacts"):
            shutil.rmtree(self.stack.home / place)
            (self.stack.home / place).mkdir()
        for name in DATABASES:
            self.sql(f"DROP DATABASE {name} WITH (FORCE);")
        self.stack.postgres()  # makes what is missing

    def supply(self, day: date = RUN_DATE) -> None:
        """The suppliers deliver."""
        self.type(f"python -m include.cli simulate --project {PROJECT.name} --start {day}")

    def change(self, name: str, old: str, new: str) -> None:
        """Somebody changes a file of the bundle."""
        path = self.bundle / name
        text = path.read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{name}: {text.count(old)} times {old!r}"
        self._originals.setdefault(path, text)
        path.write_text(text.replace(old, new), encoding="utf-8")

    def undo(self) -> None:
        """That change is undone."""
        for path, text in self._originals.items():
            path.write_text(text, encoding="utf-8")
        self._originals.clear()

    def sql(self, statement: str, database: str = "postgres") -> str:
        """As the server's superuser."""
        return self._server.query(statement, database)

    @cached_property
    def _server(self) -> Postgres:
        return self.stack.postgres()  # which makes what is missing each time

    def landed(self, feed: str) -> Path:
        """The night's file of a feed."""
        [path] = (self.stack.home / "landing" / PROJECT.name / feed / str(RUN_DATE)).glob("*.csv.gz")
        return path

    @property
    def settings(self) -> Settings:
        return demo.settings_of(self.stack)

    # runs

    def prepared_day(self, dag_id: str, day: date = RUN_DATE, ends: str = "failed") -> str:
        """A night's run, to its end; returns its id. `manual__` is all that differs from a scheduled one."""
        run_id = self.trigger(dag_id, day)
        assert self.ended(dag_id, run_id) == ends, self.tasks(dag_id, run_id)
        return run_id

    def trigger(self, dag_id: str, day: date = RUN_DATE) -> str:
        moment = PROJECT.cutoff_at(day)
        return self.run(dag_id, f"manual__{moment.isoformat()}", logical_date=moment.isoformat())

    def run(self, dag_id: str, run_id: str, *, logical_date: str | None = None, **conf: str) -> str:
        body = {"dag_run_id": run_id, "logical_date": logical_date, "conf": conf}
        self._answer(self._client.post(f"/api/v2/dags/{dag_id}/dagRuns", json=body))
        return run_id

    def clear(self, dag_id: str, task_id: str) -> str:
        """One task of the night's run runs again, and with it what follows; returns how the run ended."""
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
        """How a run ends."""

        def look() -> str | None:
            state = self._get(f"/dags/{dag_id}/dagRuns/{run_id}")["state"]
            return str(state) if state in ("success", "failed") else None

        return str(await_that(look, f"the end of {dag_id} {run_id}"))

    def tasks(self, dag_id: str, run_id: str) -> dict[str, str]:
        found = self._get(f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances")["task_instances"]
        return {task["task_id"]: task["state"] for task in found}

    # on-call

    def type(self, script: str, *, code: int | None = 0, variables: Mapping[str, str] | None = None) -> str:
        """As typed in a shell that sourced `.local/env`; what it printed. `code` None: whatever it is."""
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

    def alerted(self, page: str, *said: str) -> None:
        """People were told, and of this page."""

        def look() -> str | None:
            return next(
                (t for t in self.webhook.texts if f"docs/runbooks/{page}.md" in t and all(s in t for s in said)), None
            )

        await_that(look, f"an alert that names {page}: {self.webhook.texts}", 60)

    def checks(self, page: str, *said: str, given: Sequence[tuple[str, str]] = ()) -> str:
        """The page's first checks, as written; they show what the page says, and `said`, which the page quotes."""
        found = ""
        for script in Page(page).commands("First checks"):
            found += self.type(_here(script, given), code=None)
        for quoted in [*said, *Page(page).seen("First checks")]:
            assert Page(page).quotes(quoted), f"{page}.md does not say {quoted!r}"
            assert matches(_here(quoted, given), found), (
                f"{quoted!r} is not in what {page}.md looks at:\n{found[-6000:]}"
            )
        return found

    def mend(self, page: str, *numbers: int, given: Sequence[tuple[str, str]] = (), **variables: str) -> str:
        """The commands under `Fix it`, as written: all blocks, or those."""
        scripts = Page(page).commands("Fix it")
        chosen = [scripts[n] for n in numbers] if numbers else scripts
        return "".join(self.type(_here(script, given), variables=variables) for script in chosen)

    def written(self, page: str, heading: str) -> list[str]:
        """The commands under another heading of a page."""
        return Page(page).commands(heading)

    def cured(self, page: str, given: Sequence[tuple[str, str]] = ()) -> None:
        """What the page says is to be seen in the end."""
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

    def _unpause(self) -> None:
        wanted = {PREPARE, TRAIN, SCORE, MONITOR, REPLAY, REPROCESS, OTHER_SCORE}
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
    """What `look` returns once it is true."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(pause)
    return found


def _here(text: str, given: Sequence[tuple[str, str]]) -> str:
    """Runs of a drill are started by hand: that part of their id differs, and what the drill has to give."""
    for old, new in [("scheduled__", "manual__"), *given]:
        text = text.replace(old, new)
    return text
