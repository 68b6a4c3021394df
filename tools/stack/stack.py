"""Start, stop, show and use a whole stack."""

import fcntl
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import httpx
import psutil

from tools import processes
from tools.postgres import Postgres, PostgresError
from tools.stack import environment, ports
from tools.stack.airflow import Airflow, ApiServer
from tools.stack.groups import ProcessGroups, measure_memory
from tools.stack.layout import HOME, ROOT, USER, StackError, StackLayout
from tools.stack.private import make_private, private_files
from tools.stack.s3 import S3
from tools.stack.service import Service, http_client
from tools.stack.services import services_of
from tools.stack.spark import Spark
from tools.stack.state import StackState, Started, write_private

HEALTHY_SECONDS = 180


@dataclass(frozen=True)
class ServiceStatus:
    """The status of a service; `memory_bytes` is memory that its processes share with no other process."""

    name: str
    pid: int | None
    healthy: bool
    memory_bytes: int


class Stack:
    """The stack with all its files below `home`.

    Args:
        home: The folder of the stack.
        bundle: The folder of the DAG bundle.
        settings: More environment variables for Airflow, such as a test's `AIRFLOW_CONN_…`.
        say: A function that is called with a text about what a slow step waits for.
    """

    def __init__(
        self,
        home: Path = HOME,
        *,
        bundle: Path = ROOT,
        settings: Mapping[str, str] | None = None,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.home = home.resolve()
        self.bundle = bundle.resolve()
        self.settings = dict(settings or {})
        self.say = say
        self._groups = ProcessGroups(self.home, self.home / "postgres")

    # Start, stop, show

    def start(
        self,
        schedule: bool | None = None,
        mlflow: bool | None = None,
        spark: bool | None = None,
        s3: bool | None = None,
    ) -> None:
        """Start every service that does not run with its current settings, and wait until all are healthy.

        An argument that is None keeps its value of the last start.

        Args:
            schedule: Run the DAGs' schedules. Otherwise only runs started by hand or by a backfill run.
            mlflow: Serve MLflow's pages too, until `stop`, and link Airflow's pages to them.
            spark: Run a Spark server. Otherwise each task that needs Spark starts its own.
            s3: Keep landing, tables and artifacts in an S3 server, which is empty after each start, and not in folders.
        """
        with self._lock(), ports.one_start_at_a_time(self.say):
            self._start_postgres()
            asked = {"schedule": schedule, "mlflow": mlflow, "spark": spark, "s3": s3}
            self._remember(**{name: value for name, value in asked.items() if value is not None})
            self._groups.end_orphans(self._find_leaders(self._services))
            self._choose_ports()
            self._write_secrets()
            self._launch_wrong()
            self._write_environment()
            self._await_health()
            if self.s3_url:
                S3(self._layout).make_bucket()

    def postgres(self) -> Postgres:
        """Start only PostgreSQL, if it does not run, and return it. The product's command line needs nothing else."""
        with self._lock():
            self._start_postgres()
            self._choose_ports()
            self._write_environment()
        return self._layout.postgres

    def stop(self) -> list[int]:
        """Stop all services and processes; return the numbers of the processes that had to be killed."""
        if not self.home.exists() and not processes.find_processes(self.home):
            return []
        with self._lock():
            self.say("stopping Airflow")
            # Tasks report how they ended to the API server, and a task that loses Spark or S3 would report a failure.
            # So these services end last, together with what is left of the others.
            last = (ApiServer.name, Spark.name, S3.name)
            killed = self._end([name for name in self._services if name not in last])
            killed += self._groups.end_all()
            self.say("stopping PostgreSQL")
            self._layout.postgres.stop()
            killed += self._groups.kill_all()
            self._remember(services={}, mlflow=False)
        return [process.pid for process in killed]

    def status(self) -> list[ServiceStatus]:
        """Return the status of PostgreSQL and the services, without changing anything."""
        if not self.home.exists():
            return [ServiceStatus(name, None, False, 0) for name in ("postgres", *self._services)]
        unhealthy = self._find_unhealthy()
        server = self._layout.postgres.server()
        found = [("postgres", server, server is not None)]
        found += [(name, self._find(name), name not in unhealthy) for name in self._services]
        return [
            ServiceStatus(name, process.pid if process else None, healthy, measure_memory(process))
            for name, process, healthy in found
        ]

    # For users of the stack

    def environment(self) -> dict[str, str]:
        """Return the environment of Airflow's services, with the marker by which `start` and `stop` find them.

        Any other process that is started with it counts as a part of the stack, and ends with it.
        """
        return environment.of_service(self._layout, Airflow(self._layout).settings())

    def cli_environment(self) -> dict[str, str]:
        """Return the environment of a shell that sourced `env`: for `airflow`, `psql` and `include.cli`."""
        return environment.of_command(self._shell_settings())

    @property
    def api_url(self) -> str:
        """The address of Airflow's pages and REST API."""
        return self._layout.api_url

    @property
    def login(self) -> tuple[str, str]:
        """The user and the password of Airflow's and MLflow's pages."""
        return USER, self._layout.keys.ui_password

    @property
    def mlflow_url(self) -> str | None:
        """The address of MLflow's pages; None unless the stack serves them."""
        return self._layout.mlflow_url

    @property
    def spark_url(self) -> str | None:
        """The address of the Spark Connect server that tasks share; None unless the stack has one."""
        return self._layout.spark_url

    @property
    def s3_url(self) -> str | None:
        """The address of the S3 server; None if everything is in folders."""
        return self._layout.s3_url

    def api(self) -> httpx.Client:
        """Return a client of the REST API with an administrator's token; paths start with `/api/v2`."""
        self._refuse_others(ApiServer.name)
        user, password = self.login
        body = {"username": user, "password": password}
        answer = http_client().post(f"{self.api_url}/auth/token", json=body).raise_for_status()
        token = answer.json()["access_token"]
        headers = {"Authorization": f"Bearer {token}"}
        return httpx.Client(base_url=self.api_url, headers=headers, trust_env=False, timeout=120)

    def log(self, name: str) -> Path:
        """Return the log file of `postgres`, `migrate` or a service."""
        return self._layout.log(name)

    # Steps of a start

    def _start_postgres(self) -> None:
        if self._layout.postgres.server() is None:
            self.say("starting PostgreSQL")
        self._layout.postgres.start()

    def _choose_ports(self) -> None:
        services = self._services.values()
        usual = {name: port for service in services for name, port in service.usual_ports.items()}
        held = {port for service in services if self._find(service.name) for port in service.usual_ports}
        if (chosen := ports.choose_ports(self._state.ports, usual, held)) != self._state.ports:
            self._remember(ports=chosen)

    def _launch_wrong(self) -> None:
        """Restart each service that does not run with its current settings."""
        airflow = Airflow(self._layout)
        airflow.write_preload()
        wrong = [service for service in self._services.values() if not self._is_right(service)]
        if wrong:
            self._end(service.name for service in wrong)
            self._groups.end_orphans(self._find_leaders(self._services))
            if not airflow.is_migrated():
                self.say("creating Airflow's tables")
                airflow.migrate(self.environment())
        for service in wrong:
            self._launch(service)

    def _is_right(self, service: Service) -> bool:
        """Return whether a service runs with its current settings."""
        started = self._state.services.get(service.name)
        return (
            started is not None
            and started.settings_digest == service.digest()
            and self._groups.find(started.pid) is not None
        )

    def _launch(self, service: Service) -> None:
        started_at = datetime.now(UTC)
        variables = environment.of_service(self._layout, service.settings())
        pid = self._groups.launch(service.command(), variables, self.log(service.name))
        started = Started(pid=pid, started_at=started_at, settings_digest=service.digest())
        self._remember(services=self._state.services | {service.name: started})

    def _write_secrets(self) -> None:
        """Write the files from which services and clients read the secrets that they have in common."""
        user, password = self.login
        write_private(self._layout.passwords_file, json.dumps({user: password}) + "\n")
        write_private(self._layout.spark_token_file, self._layout.keys.spark_token + "\n")

    def _write_environment(self) -> None:
        environment.write(self.home / "env", self._shell_settings())

    def _shell_settings(self) -> dict[str, str]:
        settings = Airflow(self._layout).settings() | environment.of_product(self._layout)
        if self._find(Spark.name) is None:  # If only PostgreSQL was started, a command has to start its own Spark.
            settings.pop("SPARK_REMOTE", None)
        return settings

    def _await_health(self) -> None:
        deadline = time.monotonic() + HEALTHY_SECONDS
        said: list[str] = []
        self._refuse_others(*self._services)
        while waiting := self._find_unhealthy():
            self._refuse_others(*self._services)
            if waiting != said:
                self.say(f"waiting for {', '.join(waiting)}")
                said = waiting
            for name in self._services:
                if self._find(name) is None:
                    raise StackError(f"the {name} ended; the end of {self._read_log(name)}")
            if time.monotonic() > deadline:
                raise StackError(f"not healthy after {HEALTHY_SECONDS} s; the end of {self._read_log(waiting[0])}")
            time.sleep(0.2)

    def _refuse_others(self, *names: str) -> None:
        """Refuse a port that another user took before the service did: it would answer for it, and be sent secrets.

        Raises:
            StackError: another user of the machine listens there.
        """
        for name in names:
            for port in self._services[name].usual_ports:
                number = self._state.ports.get(port)
                if number is not None and ports.is_others(number):
                    raise StackError(
                        f"another user of this machine listens at port {number}, which the {name} was to have, so no "
                        "password or token is sent there. Type: make stop, then start again, at another port"
                    )

    # Services

    @property
    def _services(self) -> dict[str, Service]:
        """The services that should run."""
        return services_of(self._layout)

    def _find_unhealthy(self) -> list[str]:
        """Return the names of the services that are not healthy."""
        started = self._state.services
        return [
            name
            for name, service in self._services.items()
            if self._find(name) is None or not service.is_healthy(started[name].started_at)
        ]

    def _find(self, name: str) -> psutil.Process | None:
        """Return the first process of a service, if it runs."""
        started = self._state.services.get(name)
        return self._groups.find(started.pid) if started else None

    def _find_leaders(self, names: Iterable[str]) -> set[int]:
        return {process.pid for name in names if (process := self._find(name))}

    def _end(self, names: Iterable[str]) -> list[psutil.Process]:
        return self._groups.end(self._find_leaders(names))

    def _read_log(self, name: str) -> str:
        return f"{self.log(name)}:\n{processes.read_end(self.log(name))}"

    # Files

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Let one command at a time change the stack, and make its folders.

        Whatever this process writes and starts meanwhile is its owner's alone.
        """
        with private_files():
            make_private(self.home, apart_from=self.home / "postgres")
            for folder in ("logs", "landing", "tables", "artifacts", "journal", "spark", "sources"):
                (self.home / folder).mkdir(exist_ok=True)
            with (self.home / "lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                self.__dict__.pop("_layout", None)  # Another command may have changed the state.
                try:
                    yield
                except PostgresError as error:
                    raise StackError(str(error)) from error

    @cached_property
    def _layout(self) -> StackLayout:
        return StackLayout(self.home, self.bundle, StackState.read(self.home / "state.json"), self.settings)

    @property
    def _state(self) -> StackState:
        return self._layout.state

    def _remember(self, **changes: object) -> None:
        state = self._state.model_copy(update=changes)
        write_private(self.home / "state.json", state.model_dump_json(indent=2))
        self._layout = StackLayout(self.home, self.bundle, state, self.settings)
