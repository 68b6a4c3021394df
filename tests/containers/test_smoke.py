"""Run a nightly run in containers (`make smoke`), with the images that `make up` builds."""

import json
import re
from datetime import timedelta
from pathlib import Path

import pytest

from tests.containers.composed import BEFORE, MODEL, Composed, services_of

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


def test_ports_are_on_loopback_only(composed: Composed) -> None:
    for service in services_of(composed):
        for bindings in (composed.inspect(service)["NetworkSettings"]["Ports"] or {}).values():
            assert [binding["HostIp"] for binding in bindings or []] in ([], ["127.0.0.1"])


def test_of_two_writers_of_the_same_table_version_one_is_refused(composed: Composed) -> None:
    script = (Path(__file__).parent / "commits.py").read_text(encoding="utf-8")
    assert composed.python(script) == "20 rounds, 1 winner each"
