"""Run a nightly run in containers (`make smoke`), with the images that `make up` builds."""

import json
import re
from datetime import timedelta
from pathlib import Path

import pytest

from tests.containers.composed import BEFORE, MODEL, Composed, services_of
from tools.stack import ROOT
from tools.supply.lock import locked

pytestmark = pytest.mark.timeout(1500)

RUN_DATE = BEFORE + timedelta(days=1)


def test_a_nightly_run_succeeds_and_its_results_agree(composed: Composed) -> None:
    composed.make_history(RUN_DATE)
    composed.run_date(RUN_DATE)
    composed.check(RUN_DATE)
    rows = composed.query(
        f"SELECT day, count(*) FROM current_predictions WHERE model = '{MODEL}' GROUP BY 1 ORDER BY 1"
    )
    assert rows.splitlines() == [f"{BEFORE}|954", f"{RUN_DATE}|738"]


def test_data_is_in_the_store_and_not_in_a_container(composed: Composed) -> None:
    script = """
from dags.connections import resolve
from include.io.storage import filesystem

settings = resolve("tests", "unknown")
for uri in (settings.landing, settings.tables, settings.artifacts):
    fs, path = filesystem(settings, uri)
    print(len(fs.find(path)))
"""
    counts = composed.python(script).split()
    assert len(counts) == 3 and all(int(count) > 10 for count in counts)


def test_no_container_is_root_and_none_has_a_secret_in_its_settings(composed: Composed) -> None:
    folder = Path(composed.settings["NIGHTLY_SECRETS"])
    texts = [file.read_text(encoding="utf-8") for file in folder.iterdir()]
    values = {value for text in texts for value in re.findall(r"[\w/=+-]{20,}", text)}
    assert len(values) > 10
    for service in services_of(composed):
        found = composed.inspect(service)
        assert found["Config"]["User"].split(":")[0] not in ("", "0", "root")
        said = json.dumps(found)
        assert [value for value in values if value in said] == []
        logs = composed.compose("logs", "--no-log-prefix", service)
        assert [value for value in values if value in logs] == []


def test_the_image_has_production_s_packages_and_nothing_that_tests_or_installs(composed: Composed) -> None:
    script = """
from importlib.metadata import distributions
from re import sub
print("\\n".join(sub(r"[-_.]+", "-", each.metadata["Name"]).lower() for each in distributions()))
"""
    installed = set(composed.python(script).split())
    production, laptop = (set(locked(ROOT / name)) for name in ("requirements.txt", "requirements-dev.txt"))
    assert {"apache-airflow", "mlflow", "pyspark"} < installed
    assert installed <= production | {"nightly-ml-backfill"}
    assert not installed & (laptop - production | {"pip"})
    for program in ("pip", "uv", "pytest", "ruff", "mypy", "moto_server"):
        assert composed.python("import shutil, sys; print(shutil.which(sys.argv[1]))", program) == "None"


def test_ports_are_on_loopback_only(composed: Composed) -> None:
    for service in services_of(composed):
        for bindings in (composed.inspect(service)["NetworkSettings"]["Ports"] or {}).values():
            assert [binding["HostIp"] for binding in bindings or []] in ([], ["127.0.0.1"])


def test_of_two_writers_of_the_same_table_version_one_is_refused(composed: Composed) -> None:
    script = (Path(__file__).parent / "commits.py").read_text(encoding="utf-8")
    assert composed.python(script) == "20 rounds, 1 winner each"
