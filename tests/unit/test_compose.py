"""docker-compose.yaml: limits of every service, and the same settings as the local stack."""

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


def test_secrets_are_the_files_that_make_up_creates() -> None:
    made = make_secrets.make()
    assert set(FILE["secrets"]) - {"extra_ca"} == set(made)
    for name, secret in FILE["secrets"].items():
        if name != "extra_ca":
            assert secret == {"file": f"${{NIGHTLY_SECRETS:-secrets}}/{name}"}
    used = {secret for service in SERVICES.values() for secret in service.get("secrets", ())}
    assert used == set(made)


def test_only_init_has_the_logins_of_the_superuser_and_of_the_owner() -> None:
    made = make_secrets.make()
    roles = {name: [line.split(":")[3] for line in made[name].splitlines()] for name in ("pgpass", "pgpass_init")}
    assert roles == {
        "pgpass": ["airflow", "mlflow", "writer"],
        "pgpass_init": ["postgres", "airflow", "mlflow", "nightly", "writer"],
    }
    assert set(made["pgpass"].splitlines()) < set(made["pgpass_init"].splitlines())
    of_init = [name for name, service in SERVICES.items() if "pgpass_init" in service.get("secrets", ())]
    assert of_init == ["init"]
    assert SERVICES["init"]["environment"]["PGPASSFILE"] == "/run/secrets/pgpass_init"


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
    assert (make_secrets.ROLES, make_secrets.WRITER) == (postgres.OWNERS, postgres.WRITER)
    options = {"listen_addresses", "unix_socket_permissions"}  # options of a server on a socket
    said = dict(option.split("=") for option in SERVICES["postgres"]["command"] if "=" in option)
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
    (tmp_path / "secrets" / "pgpass").unlink()
    assert make_secrets.main(env) == 1
    assert "restore the rest" in capsys.readouterr().err


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
