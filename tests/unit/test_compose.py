"""docker-compose.yaml: limits of every service, and the same settings as the local stack."""

import json
import os
import re
from typing import Any

import pytest
import yaml

from tools import make_secrets, postgres
from tools.stack import ROOT, SETTINGS

FILE = yaml.safe_load((ROOT / "docker-compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = FILE["services"]
ONCE = {name for name, service in SERVICES.items() if service["restart"] == "no"}
PRODUCT = {name for name, service in SERVICES.items() if "NIGHTLY_IMAGE" in service["image"]}


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_limits_and_no_privileges(name: str) -> None:
    service = SERVICES[name]
    limits = service["deploy"]["resources"]["limits"]
    assert limits["memory"] and limits["pids"]
    assert service["user"].startswith("${NIGHTLY_UID")
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert service["logging"]["options"]["max-size"], "limit the size of its log, or it fills the disk"


@pytest.mark.parametrize("name", sorted(SERVICES.keys() - ONCE))
def test_a_running_service_has_a_health_check_and_restarts(name: str) -> None:
    assert SERVICES[name]["restart"] == "unless-stopped"
    assert SERVICES[name]["healthcheck"]["test"]


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_on_loopback_and_can_be_configured(name: str) -> None:
    for port in SERVICES[name].get("ports", ()):
        assert re.fullmatch(r"127\.0\.0\.1:\$\{[A-Z]+_PORT:-\d+\}:\d+", port)


@pytest.mark.parametrize("name", SERVICES)
def test_data_is_on_named_volumes(name: str) -> None:
    sources = [v["source"] if isinstance(v, dict) else v.split(":")[0] for v in SERVICES[name].get("volumes", ())]
    assert set(sources) <= set(FILE["volumes"])


def test_every_service_waits_for_its_dependencies() -> None:
    for name in PRODUCT - {"volumes", "init", "spark"}:
        assert SERVICES[name]["depends_on"]["init"] == {"condition": "service_completed_successfully"}, name
    for name in SERVICES:
        for other, said in SERVICES[name].get("depends_on", {}).items():
            wanted = "service_completed_successfully" if other in ONCE else "service_healthy"
            assert said == {"condition": wanted}, f"{name} waits for {other}"


def test_no_secret_is_in_a_setting() -> None:
    for name, service in SERVICES.items():
        for variable, value in (service.get("environment") or {}).items():
            if re.search("PASSWORD|SECRET|KEY|TOKEN", variable):
                assert re.match("cat /run/secrets/|/|airflow[.]secrets|{", str(value)), f"{name}: {variable}"
            assert not re.search(r"://[^/@]*:[^/@]+@", str(value)), f"{name}: {variable} has a password"


def secrets_of(name: str) -> set[str]:
    """Return the files that a service gets."""
    return {each if isinstance(each, str) else each["source"] for each in SERVICES[name].get("secrets", ())}


GIVEN = {"extra_ca", "postgres_ca", "postgres_certificate", "postgres_key"}
"""Files that `.env` names and people make."""


def test_secrets_are_the_files_that_make_up_creates() -> None:
    made = set(make_secrets.make()) - {"supplier.json"}  # for people
    assert set(FILE["secrets"]) - GIVEN == made
    for name in made:
        assert FILE["secrets"][name] == {"file": f"${{NIGHTLY_SECRETS:-secrets}}/{name}"}
    assert set().union(*map(secrets_of, SERVICES)) - GIVEN == made


def test_a_secret_is_only_where_it_is_needed() -> None:
    holders: dict[str, set[str]] = {}
    for name in SERVICES:
        for secret in secrets_of(name) - GIVEN:
            holders.setdefault(secret, set()).add(name)
    assert holders == {
        "api_secret_key": {"api-server", "scheduler", "triggerer", "worker"},
        "connections.json": {"init", "scheduler", "worker"},
        "connections_dag_processor.json": {"dag-processor"},
        "connections_mlflow.json": {"mlflow"},
        "connections_triggerer.json": {"triggerer"},
        "connections_watcher.json": {"watcher"},
        "fernet_key": {"api-server", "init", "scheduler", "triggerer"},
        "jwt_secret": {"api-server", "scheduler"},
        "mlflow_password": {"mlflow"},
        "mlflow_secret_key": {"mlflow"},
        "pgpass_airflow": {"dag-processor", "triggerer"},
        "pgpass_api_server": {"api-server"},
        "pgpass_init": {"init"},
        "pgpass_mlflow": {"mlflow"},
        "pgpass_scheduler": {"scheduler"},
        "pgpass_watcher": {"watcher"},
        "pgpass_worker": {"worker"},
        "postgres_password": {"postgres"},
        "redis.conf": {"redis"},
        "redis_url": {"scheduler", "worker"},
        "spark_token": {"scheduler", "spark", "worker"},
        "store_access_key": {"init", "store"},
        "store_secret_key": {"init", "store"},
        "store_users.json": {"init", "store"},
        "ui_passwords.json": {"api-server"},
    }


def test_a_command_reads_only_secrets_that_its_service_has() -> None:
    for name, service in SERVICES.items():
        targets = {each if isinstance(each, str) else each["target"] for each in service.get("secrets", ())}
        read = set(
            re.findall(
                r"/run/secrets/([\w.]+)",
                str([service.get(key) for key in ("environment", "command", "entrypoint", "healthcheck")]),
            )
        )
        assert read <= targets, name


def test_each_password_file_has_the_logins_of_its_services() -> None:
    made = make_secrets.make()
    files = {
        name: [line.split(":")[2:4] for line in text.splitlines()] for name, text in made.items() if "pgpass" in name
    }
    assert files == {
        "pgpass_airflow": [["airflow", "airflow"]],
        "pgpass_api_server": [["airflow", "airflow"], ["nightly", "pages"]],
        "pgpass_init": [["*", "postgres"], *([database, role] for role, database in make_secrets.DATABASES.items())],
        "pgpass_mlflow": [["*", "mlflow_pages"]],
        "pgpass_watcher": [["nightly", "writer"]],
        "pgpass_scheduler": [["airflow", "airflow"], ["celery", "celery"], ["mlflow", "mlflow"], ["nightly", "writer"]],
        "pgpass_worker": [["celery", "celery"], ["mlflow", "mlflow"], ["nightly", "writer"]],
    }
    in_init = made["pgpass_init"].splitlines()
    assert all(set(made[name].splitlines()) < set(in_init) for name in files if name != "pgpass_init")


def test_each_service_has_keys_of_its_own_in_the_store() -> None:
    made = make_secrets.make()
    files = {
        "tasks": "connections.json",
        "mlflow": "connections_mlflow.json",
        "triggerer": "connections_triggerer.json",
    }
    logins = {account: json.loads(made[file])["nightly_storage"] for account, file in files.items()}
    supplier = json.loads(made["supplier.json"])
    keys = {
        **{each["login"]: each["password"] for each in logins.values()},
        supplier["access_key"]: supplier["secret_key"],
    }
    users = json.loads(made["store_users.json"])["accessAccounts"]
    assert {access: user["secret"] for access, user in users.items()} == keys
    assert {user["role"] for user in users.values()} == {"user"}, "an administrator passes all policies"
    assert len(set(keys.values()) | {made["store_secret_key"]}) == len(make_secrets.ACCOUNTS) + 1
    for account, login in logins.items():
        assert login["login"].split("-")[0] == account


def test_only_init_can_read_the_password_of_the_owner_of_the_shared_database() -> None:
    owner = json.loads(make_secrets.make()["connections.json"])["nightly_database_owner"]
    assert "password" not in owner
    assert [name for name, roles in make_secrets.LOGINS.items() if owner["login"] in roles] == ["pgpass_init"]


def test_networks_lead_outside_only_where_it_is_needed() -> None:
    inside = {name for name, said in FILE["networks"].items() if said.get("internal")}
    assert set(FILE["networks"]) - inside == {"front", "front-storage", "outside"}
    members = {
        network: {name for name in SERVICES if network in SERVICES[name].get("networks", ())}
        for network in FILE["networks"]
    }
    assert members["outside"] == {"dag-processor", "scheduler", "triggerer", "watcher", "worker"}
    published = {name for name in SERVICES if SERVICES[name].get("ports")}
    assert published == members["front"] | members["front-storage"]
    assert members["spark"] == {"scheduler", "spark", "worker"}
    for name, service in SERVICES.items():
        assert service.get("networks") or service["network_mode"] == "none", name
    for name in ("front", "front-storage", "outside"):  # containers do not meet there
        assert FILE["networks"][name]["driver_opts"]["com.docker.network.bridge.enable_icc"] == "false"
    for name in ("front", "front-storage"):
        assert FILE["networks"][name]["driver_opts"]["com.docker.network.bridge.enable_ip_masquerade"] == "false"
    assert not members["front"] & members["front-storage"], (
        "it would look for the other at an address that does not answer"
    )


def test_every_setting_is_in_the_example_file_with_the_same_default() -> None:
    lines = (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()
    example = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    text = (ROOT / "docker-compose.yaml").read_text(encoding="utf-8")
    used = dict(re.findall(r"(?<!\$)\$\{(\w+)(?::-([^}]*))?", text))
    assert set(used) - {"GIT_COMMIT"} == set(example) - {"COMPOSE_PROFILES"}
    for name, default in used.items():
        if default and name not in ("GIT_COMMIT", "NIGHTLY_SECRETS"):
            assert example[name] == default, name


def test_postgres_has_the_roles_and_options_of_the_local_stack() -> None:
    assert set(make_secrets.DATABASES) - {"celery", "mlflow_pages", "pages"} == {*postgres.OWNERS, postgres.WRITER}
    options = {"listen_addresses", "unix_socket_permissions"}  # options of a server on a socket
    said = dict(option.split("=") for option in SERVICES["postgres"]["command"] if "=" in option)
    said = {name: value for name, value in said.items() if not name.startswith("ssl")}
    assert said == {name: value for name, value in postgres.OPTIONS.items() if name not in options}


def test_airflow_has_the_settings_of_the_local_stack() -> None:
    for name in PRODUCT - {"volumes", "spark"}:
        assert SERVICES[name]["env_file"] == ["tools/airflow.env"]
        assert not SETTINGS.keys() & SERVICES[name]["environment"].keys()


def test_existing_secrets_are_kept(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    env = tmp_path / "env"
    owner = os.geteuid() or 10001
    env.write_text(f"NIGHTLY_UID={owner}\nNIGHTLY_SECRETS={tmp_path / 'secrets'}\n", encoding="utf-8")
    assert make_secrets.main(env) == 0
    files = sorted((tmp_path / "secrets").iterdir())
    made = [file.read_text(encoding="utf-8") for file in files]
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    assert make_secrets.main(env) == 0
    assert [file.read_text(encoding="utf-8") for file in files] == made
    (tmp_path / "secrets" / "pgpass_worker").unlink()
    assert make_secrets.main(env) == 1
    assert "restore the rest" in capsys.readouterr().err


def test_the_secrets_of_an_older_version_are_refused_before_anything_is_made(
    tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    env, folder = tmp_path / "env", tmp_path / "secrets"
    env.write_text(f"NIGHTLY_UID={os.geteuid() or 10001}\nNIGHTLY_SECRETS={folder}\n", encoding="utf-8")
    folder.mkdir()
    for name in ("pgpass", "pgpass_init", "postgres_password", "connections.json"):
        (folder / name).write_text("old", encoding="utf-8")
    assert make_secrets.main(env) == 1
    assert "Secrets of an older version" in capsys.readouterr().err
    assert len(list(folder.iterdir())) == 4


def test_the_alerts_of_runs_go_where_those_of_tasks_go(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    env, folder = tmp_path / "env", tmp_path / "secrets"
    env.write_text(f"NIGHTLY_UID={os.geteuid() or 10001}\nNIGHTLY_SECRETS={folder}\n", encoding="utf-8")
    assert make_secrets.main(env) == 0
    webhook = {"nightly_alerts": {"conn_type": "http", "password": "https://hooks.example.com/1"}}
    tasks = json.loads((folder / "connections.json").read_text(encoding="utf-8"))
    (folder / "connections.json").write_text(json.dumps(tasks | webhook), encoding="utf-8")
    assert make_secrets.main(env) == 1
    assert "connections_dag_processor.json" in capsys.readouterr().err
    (folder / "connections_dag_processor.json").write_text(json.dumps(webhook), encoding="utf-8")
    assert make_secrets.main(env) == 1
    assert "connections_watcher.json" in capsys.readouterr().err
    (folder / "connections_watcher.json").write_text(json.dumps(webhook), encoding="utf-8")
    assert make_secrets.main(env) == 0


@pytest.mark.parametrize(("owner", "person", "why"), [(0, 0, "must not be 0"), (10001, 1000, "put yours there")])
def test_secrets_that_no_container_could_read_are_not_created(
    tmp_path: Any,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    owner: int,
    person: int,
    why: str,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: person)
    env = tmp_path / "env"
    env.write_text(f"NIGHTLY_UID={owner}\nNIGHTLY_SECRETS={tmp_path / 'secrets'}\n", encoding="utf-8")
    assert make_secrets.main(env) == 1
    assert why in capsys.readouterr().err
    assert not (tmp_path / "secrets").exists()
