"""What each container can reach, read and write, tried from inside, against the tables of docs/security.md."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest

from tests.containers import probe
from tests.containers.composed import Composed, services_of
from tools.make_secrets import BUCKET, LANDING

pytestmark = pytest.mark.timeout(1500)

PAGE = Path(__file__).parents[2] / "docs" / "security.md"
SCRIPT = Path(probe.__file__).read_text(encoding="utf-8")

PORTS = {
    "api-server": 8080,
    "mlflow": 5000,
    "postgres": 5432,
    "redis": 6379,
    "scheduler": 8793,  # with LocalExecutor, it serves the logs of tasks, as workers do
    "spark": 15002,
    "store": 7070,
    "triggerer": 8794,
    "worker": 8793,
}
OUTSIDE = ("198.51.100.2", 9000)
"""A machine that is not this one: a network namespace behind an interface of its own (an address for documentation)."""

PLACES = {"landing": LANDING, **{place: f"{BUCKET}/{place}" for place in ("tables", "artifacts", "journal")}}

WITHOUT_PYTHON = ("postgres", "redis", "store")


@pytest.fixture(scope="module")
def outside() -> Iterator[None]:
    if os.geteuid() != 0:
        pytest.skip("only root can make a network outside of the containers")
    space = "nightly-outside"
    commands = f"""ip netns add {space}
        ip link add nightly-out type veth peer name nightly-far netns {space}
        ip addr add 198.51.100.1/24 dev nightly-out
        ip link set nightly-out up
        ip -n {space} addr add {OUTSIDE[0]}/24 dev nightly-far
        ip -n {space} link set nightly-far up"""
    subprocess.run(["ip", "netns", "delete", space], capture_output=True, check=False)  # of a killed run
    for command in commands.splitlines():
        subprocess.run(command.split(), check=True)
    server = ["ip", "netns", "exec", space, sys.executable, "-m", "http.server", str(OUTSIDE[1])]
    running = subprocess.Popen(
        server, cwd="/var/empty" if Path("/var/empty").exists() else "/", stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        running.terminate()
        running.wait()
        subprocess.run(["ip", "netns", "delete", space], check=True)


@pytest.fixture(scope="module")
def found(composed: Composed, outside: None) -> dict[str, dict[str, Any]]:
    """Return for each service what the probe printed there."""
    root = [
        (composed.folder / "secrets" / f"store_{name}_key").read_text("utf-8").strip() for name in ("access", "secret")
    ]
    client = store(composed, *root)
    for uri in PLACES.values():
        bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        client.put_object(Bucket=bucket, Key=f"{prefix}/probe".lstrip("/"), Body=b"")
    asked = json.dumps({"targets": {**addresses(composed), "outside": [OUTSIDE]}, "places": PLACES})
    names = [*services_of(composed), "init"]
    with ThreadPoolExecutor(4) as pool:  # most of the time is waiting for addresses that do not answer
        tried = pool.map(lambda name: probed(composed, name, asked) | held(composed, name), names)
        return dict(zip(names, tried, strict=True))


def addresses(composed: Composed) -> dict[str, list[tuple[str, int]]]:
    """Return all addresses of each service that listens: another container may use one without its name."""
    return {
        name: [(each["IPAddress"], port) for each in composed.inspect(name)["NetworkSettings"]["Networks"].values()]
        for name, port in PORTS.items()
    }


def probed(composed: Composed, service: str, asked: str) -> dict[str, Any]:
    """Run the probe with the network and the files of a service."""
    python = ["python", "-c", SCRIPT, asked]
    if service == "init":  # it has ended
        text = composed.compose("run", "--rm", "--no-deps", "-T", "init", *python)
    elif service in WITHOUT_PYTHON:
        network = ["--network", f"container:{composed.inspect(service)['Id']}", "--user", "10001"]
        command = ["docker", "run", "--rm", *network, composed.settings["NIGHTLY_IMAGE"], *python]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    else:
        text = composed.compose("exec", "-T", service, *python)
    return json.loads(text.strip().splitlines()[-1])  # type: ignore[no-any-return]


def held(composed: Composed, service: str) -> dict[str, Any]:
    """Return the secrets that a service reads, by their content, and the volumes that it reads or writes."""
    volumes = {
        mount["Destination"]: mount["Name"].removeprefix(f"{composed.name}_")
        for mount in composed.inspect(service)["Mounts"]
        if mount["Type"] == "volume"
    }
    tried = [
        f"touch {folder}/.probe 2>/dev/null && rm {folder}/.probe && echo writes {folder}"
        for folder in (*volumes, "/", "/etc", "/opt", "/usr/local/bin", "/var", "/run")
    ]
    script = ["sh", "-c", "; ".join(["cd /run/secrets 2>/dev/null && sha256sum *", "cd /", *tried, "true"])]
    how = ("run", "--rm", "--no-deps", "-T") if service == "init" else ("exec", "-T")
    said = [line.split() for line in composed.compose(*how, service, *script).splitlines()]
    known = {
        hashlib.sha256(file.read_bytes()).hexdigest(): file.name for file in (composed.folder / "secrets").iterdir()
    }
    writes = {folder for first, folder in said if first == "writes"}
    return {
        "secrets": sorted(known[first] for first, _ in said if first in known),
        "volumes": sorted(f"{name}{'' if folder in writes else ' (read)'}" for folder, name in volumes.items()),
        "writes elsewhere": sorted(writes - volumes.keys()),
    }


def store(composed: Composed, access: str, secret: str) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{composed.settings['STORE_PORT']}",
        region_name="us-east-1",
        aws_access_key_id=access,
        aws_secret_access_key=secret,
    )


def test_containers_reach_only_what_the_table_says(found: dict[str, dict[str, Any]]) -> None:
    columns = [*PORTS, "outside"]
    lines = [f"| from | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
    for name in sorted(found):
        cells = ["–" if column == name else "yes" if column in found[name]["reaches"] else "no" for column in columns]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    assert lines == table("reaches"), f"{PAGE} says otherwise; it should say:\n" + "\n".join(lines)


def test_containers_hold_only_what_the_table_says(composed: Composed, found: dict[str, dict[str, Any]]) -> None:
    lines = ["| container | secrets | volumes | databases | store |", "|---|---|---|---|---|"]
    for name in sorted(found):
        said = found[name]
        databases = [f"{database}: {level}" for database, level in said.get("databases", {}).items()]
        places = [f"{place}: {', '.join(can)}" for place, can in said.get("store", {}).items()]
        cells = [", ".join(f"`{secret}`" for secret in said["secrets"]), ", ".join(said["volumes"])]
        cells += ["; ".join(databases), "; ".join(places)]
        lines.append(f"| {name} | {' | '.join(cell or 'none' for cell in cells)} |")
    supplier = json.loads((composed.folder / "secrets" / "supplier.json").read_text(encoding="utf-8"))
    url = f"http://127.0.0.1:{composed.settings['STORE_PORT']}"
    rights = probe.rights(supplier["access_key"], supplier["secret_key"], url, PLACES)
    can = "; ".join(f"{place}: {', '.join(each)}" for place, each in rights.items())
    lines.append(f"| (a supplier, from outside) | `supplier.json` | none | none | {can} |")
    assert lines == table("holds"), f"{PAGE} says otherwise; it should say:\n" + "\n".join(lines)


def test_no_container_writes_outside_of_its_volumes_or_is_root(found: dict[str, dict[str, Any]]) -> None:
    assert {name: said["writes elsewhere"] for name, said in found.items() if said["writes elsewhere"]} == {}
    assert {name: said["user"] for name, said in found.items() if said["user"] == 0} == {}


def test_mlflow_asks_for_a_login(composed: Composed) -> None:
    url = f"http://127.0.0.1:{composed.settings['MLFLOW_PORT']}"
    search = f"{url}/ajax-api/2.0/mlflow/experiments/search?max_results=10"
    password = (composed.folder / "secrets" / "mlflow_password").read_text(encoding="utf-8").strip()
    with httpx.Client(trust_env=False, timeout=60) as client:
        for path in (
            "/",
            "/ajax-api/2.0/mlflow/experiments/search?max_results=10",
            "/graphql",
            "/get-artifact?path=x&run_uuid=y",
        ):
            assert client.get(f"{url}{path}").status_code == 401, path
        assert client.get(search, auth=("admin", "guessed")).status_code == 401
        assert client.get(search, auth=("admin", password)).json()["experiments"]
        # even a person who has logged in changes nothing
        body = {"name": "planted"}
        answer = client.post(f"{url}/api/2.0/mlflow/registered-models/create", json=body, auth=("admin", password))
        assert answer.status_code >= 400
        assert composed_models(composed) == ""


def test_mlflows_pages_cannot_fill_the_database(composed: Composed) -> None:
    """Everybody may create large objects, unless a superuser takes that away in each database."""
    script = "import psycopg2; psycopg2.connect('postgresql://mlflow_pages@postgres/mlflow').cursor().execute"
    with pytest.raises(AssertionError, match="permission denied for function lo_create"):
        composed.compose("exec", "-T", "mlflow", "python", "-c", f"{script}('SELECT lo_create(0)')")


def composed_models(composed: Composed) -> str:
    """Return the registered models named as the test would."""
    script = 'import psycopg2; c = psycopg2.connect("postgresql://mlflow@postgres/mlflow").cursor(); '
    script += "c.execute(\"SELECT name FROM registered_models WHERE name = 'planted'\"); print(c.fetchall() or '')"
    return composed.python(script)


def table(name: str) -> list[str]:
    """Return the lines of a table of docs/security.md between its markers."""
    text = PAGE.read_text(encoding="utf-8")
    return text.split(f"<!-- {name}: begin -->")[1].split(f"<!-- {name}: end -->")[0].strip().splitlines()
