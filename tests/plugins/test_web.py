"""The pages of the plugins over a database, without Airflow's server: what they say, to whom, and how they read.

`tests/integration/test_web.py` clicks through them in a real Airflow.
"""

import itertools
import re
from collections.abc import Iterator
from datetime import date
from typing import Any
from urllib.parse import urlencode

import pytest
import sqlalchemy as sa

from bench.filled import HOSTILE, Shape, fill
from nightly_pages.charts import Axis, Event, Series, lines, trend
from nightly_web import words
from tests.conftest import Install
from tests.pages import Structure
from tests.plugins.conftest import PLUGINS

SHAPE = Shape(projects=2, models=2, days=70, last=date(2026, 11, 29), features=3)
DAGS = {"project_1_prepare", "model_1_1_score", "model_1_1_rollback", "model_1_1_approve", "model_1_1_train"}
PATHS = (
    "/",
    "/model/model_1_1",
    "/day/project_1/2026-11-25",
    "/feed/project_1/orders",
    "/dag?dag_id=model_1_1_train",
    "/dag?dag_id=project_1_prepare",
    "/run?dag_id=project_1_prepare&run_id=scheduled__2026-11-25T03:00:00%2B00:00",
    "/start/model_1_1_rollback",
)


class Reader:
    """A client of the pages for a user who may see some DAGs, over one database."""

    client: Any
    engine: sa.Engine

    def __init__(self) -> None:
        self.dags = DAGS

    def get(self, path: str, dags: set[str] = DAGS) -> Any:
        self.dags = dags
        return self.client.get(path)


@pytest.fixture(scope="module")
def reader(postgres_url: sa.URL, install: Install, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """Yield a client over a filled database; who may see what is said by the test."""
    from fastapi.testclient import TestClient

    from nightly_web.access import Access, find_access, may_start
    from nightly_web.app import build

    with install(tmp_path_factory.mktemp("pages")) as settings, pytest.MonkeyPatch.context() as patch:
        shared = sa.make_url(settings.database_url.get_secret_value())
        engine = sa.create_engine(shared.set(drivername="postgresql+psycopg2"), poolclass=sa.NullPool)
        with engine.begin() as connection:
            fill(connection, SHAPE)
            connection.execute(sa.text("DROP ROLE IF EXISTS of_pages"))
            connection.execute(sa.text("CREATE ROLE of_pages LOGIN IN ROLE ops_reader"))
        address = f"postgres://of_pages@/{shared.database}?host={shared.query['host']}"
        patch.setenv("AIRFLOW_CONN_NIGHTLY_DATABASE_OPS_READER", address)
        found = Reader()
        found.engine = engine
        app = build()
        app.dependency_overrides = {find_access: lambda: Access(frozenset(found.dags)), may_start: lambda: True}
        with TestClient(app) as found.client:
            yield found


def test_pages_have_nothing_of_other_dags(reader: Reader) -> None:
    for path in PATHS:
        page = reader.get(path)
        assert page.status_code == 200, (path, page.text)
        assert "model_1_1" in page.text or "project_1" in page.text, path
        assert not re.search(r"model_(1_2|2_\d)|project_2|Project 2", page.text), path
    for path in ("/model/model_1_2", "/model/unknown", "/day/project_2/2026-11-25", "/feed/project_2/orders"):
        refused = reader.get(path)
        assert refused.status_code == 403 and "You may not see the DAG" in refused.text, path


def test_without_a_login_airflow_refuses_every_page(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader.client.app, "dependency_overrides", {})
    for path in PATHS:
        page = reader.get(path)
        assert page.status_code == 401 and "Log in to Airflow" in page.text, path
        assert "model_1_1" not in page.text.replace(path, "") and "Project 1" not in page.text, path


def test_every_page_reads_well_aloud(reader: Reader) -> None:
    for path in PATHS:
        elements = Structure(reader.get(path).text).elements
        tags = [tag for tag, _ in elements]
        given = [(tag, dict(attributes)) for tag, attributes in elements]
        assert ("html", (("lang", "en"),)) in elements
        assert [tags.count(tag) for tag in ("main", "h1")] == [1, 1], path
        levels = [int(tag[1]) for tag in tags if re.fullmatch(r"h[1-6]", tag)]
        assert all(after - before <= 1 for before, after in itertools.pairwise(levels)), (path, levels)
        assert all(attributes.get("scope") for tag, attributes in given if tag == "th")
        assert all("aria-label" in a or "aria-labelledby" in a for tag, a in given if tag == "svg" and a.get("role"))
        labelled = {a.get("for") for tag, a in given if tag == "label"}
        assert all(a["id"] in labelled for tag, a in given if tag in ("input", "select")), path
        scrolling = [a for tag, a in given if tag == "div" and a.get("role") == "region"]
        assert all(a.get("tabindex") == "0" and a.get("aria-label") for a in scrolling), path
        assert not [a for _, a in given if "style" in a or any(name.startswith("on") for name in a)], path


def test_what_a_supplier_wrote_is_text(reader: Reader) -> None:
    page = reader.get("/feed/project_1/orders").text
    assert HOSTILE in Structure(page).text and "<img" not in page
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)
    assert policy and "default-src 'none'" in policy[1] and "unsafe" not in policy[1]


def test_a_day_and_a_feed_without_rows_say_so(reader: Reader) -> None:
    assert "This run date is not prepared." in reader.get("/day/project_1/2031-01-01").text
    assert "No delivery of this feed was landed yet." in reader.get("/feed/project_1/unknown").text
    assert reader.get("/day/project_1/yesterday").status_code == 422
    assert "There is nothing to show." in reader.get("/", set()).text


def test_a_day_that_is_not_prepared_shows_what_is_wrong_with_its_deliveries(reader: Reader) -> None:
    page = reader.get("/day/project_1/2026-11-30").text
    assert "Below is what a run would know now." in page and "orders/2026-11-29.csv" in page
    assert "column_values_to_be_between" in page and "What it went on without" not in page


def test_each_command_of_a_day_names_the_day(reader: Reader) -> None:
    text = " ".join(Structure(reader.get("/day/project_1/2026-11-25").text).text.split())
    assert "airflow dags backfill project_1_prepare -s 2026-11-25 -e 2026-11-25" in text
    assert "python -m include.cli outdated --project project_1 --start 2026-11-25" in text


def test_a_phone_shows_rows_of_many_columns_as_cards_with_a_head_for_each_value(reader: Reader) -> None:
    elements = Structure(reader.get("/day/project_1/2026-11-25").text).elements
    cells = [dict(attributes) for tag, attributes in elements if tag == "td"]
    labels = {cell["data-label"] for cell in cells if cell.get("role") == "cell"}
    assert {"Delivery", "Expectations failed", "Examples", "Published at"} <= labels
    heads = [attributes for tag, attributes in elements if tag == "table" and ("class", "rows") in attributes]
    assert heads and all(("role", "table") in attributes for attributes in heads)


def test_the_page_of_a_run_that_validates_has_its_failed_expectations(reader: Reader) -> None:
    run = "run_id=scheduled__2026-11-25T03:00:00%2B00:00"
    asked = f"/run?dag_id=project_1_prepare&{run}&task_id="
    assert "Failed expectations" in reader.get(f"{asked}validate").text
    assert "Failed expectations" not in reader.get(f"{asked}land").text


def record(reader: Reader, run_id: str, *steps: tuple[str, str | None]) -> None:
    """Record steps of a run, each with its model."""
    adding = sa.text(
        "INSERT INTO step_runs (project, model, step, interval_start, interval_end, state, rows, seconds, run_id, "
        "started_at, ended_at) VALUES ('project_1', :model, :step, '2026-11-29', '2026-11-29', 'success', 7, 1, "
        ":run, now(), now())"
    )
    with reader.engine.begin() as connection:
        for step, model in steps:
            connection.execute(adding, {"step": step, "model": model, "run": run_id})


def steps_of(reader: Reader, dag_id: str, run_id: str, task_id: str = "") -> list[str]:
    """Return the steps that the tab of a run or a task shows."""
    asked = {"dag_id": dag_id, "run_id": run_id} | ({"task_id": task_id} if task_id else {})
    page = reader.get(f"/run?{urlencode(asked)}", DAGS | {dag_id})
    assert page.status_code == 200, page.text
    _, _, section = page.text.partition('id="steps"')
    return re.findall(r'<th scope="row"[^>]*>\s*(.+?)\s*</th>', section.partition("</section>")[0])


def test_a_run_shows_its_own_steps_although_runs_of_other_dags_have_the_same_name(reader: Reader) -> None:
    run = "scheduled__2026-12-01T03:00:00+00:00"
    of_project = [(step, None) for step in ("land", "validate", "outcomes", "monitor", "public_page")]
    of_model = [(step, "model_1_1") for step in ("fit", "promote", "score", "score", "publish")]
    record(reader, run, *of_project, *of_model, ("score", "model_1_2"))
    assert steps_of(reader, "project_1_prepare", run) == ["land", "validate"]
    assert steps_of(reader, "project_1_monitor", run) == ["outcomes", "monitor", "public_page"]
    assert steps_of(reader, "model_1_1_train", run) == ["fit", "promote"]
    assert steps_of(reader, "model_1_1_score", run) == ["public_page", "score", "score", "publish"]
    assert steps_of(reader, "model_1_1_score", run, "public_page") == ["public_page"]
    assert steps_of(reader, "model_1_1_score", run, "score_shadow") == ["score", "score"]
    assert steps_of(reader, "model_1_1_score", run, "wait_for_features") == []


def test_the_tasks_of_models_in_a_range_backfill_show_their_steps(reader: Reader) -> None:
    run = "manual__2026-12-01T08:00:00.123456+00:00"
    record(reader, run, ("land", None), *(("score", f"model_1_{n}") for n in (1, 2)), ("publish", "model_1_1"))
    dag = "project_1_backfill_range"
    assert steps_of(reader, dag, run) == ["land", "score of model_1_1", "score of model_1_2", "publish of model_1_1"]
    assert steps_of(reader, dag, run, "model_1_2.score") == ["score of model_1_2"]
    assert steps_of(reader, dag, run, "land") == ["land"]


def test_the_tabs_of_maintenance_show_the_steps_of_all_projects_that_the_user_may_see(reader: Reader) -> None:
    run = "manual__2026-12-01T09:00:00+00:00"
    asked = f"/run?{urlencode({'dag_id': 'maintenance', 'run_id': run})}"
    said = "has recorded no step of a project that you may see: it has not ended one yet, or is a dry run"
    assert said in reader.get(asked, DAGS | {"maintenance"}).text
    record(reader, run, ("land", None), ("maintain", None))
    assert steps_of(reader, "maintenance", run) == ["land of project_1", "maintain of project_1"]
    assert steps_of(reader, "maintenance", run, "sweep") == ["land of project_1"]
    assert steps_of(reader, "maintenance", run, "maintain") == ["maintain of project_1"]
    assert "Days and times: UTC." in reader.get(asked, DAGS | {"maintenance"}).text
    assert said in reader.get(asked, {"maintenance"}).text, "another project's"


def test_the_tabs_know_the_steps_of_each_dag(bag: Any) -> None:
    from include.steps.declared import STEPS
    from nightly_web.tabs import STEP_OF_TASK, STEPS_OF

    found: dict[str, set[str]] = {kind: set() for kind in STEPS_OF}
    for dag_id, dag in bag.dags.items():
        steps = {STEP_OF_TASK.get(name, name) for name in (task_id.split(".")[-1] for task_id in dag.task_ids)}
        for kind in found:
            if dag_id == kind or dag_id.endswith(f"_{kind}"):
                found[kind] |= steps & {*STEPS}
    assert [kind for kind in found if not found[kind] <= STEPS_OF[kind]] == [], "nightly_web.tabs lacks a step"
    missing = set().union(*STEPS_OF.values()) - set().union(*found.values())
    assert missing == {"end_shadow", "retrain", "shadow"}, "the projects of tests declare neither shadow nor retrain"


def test_the_numbers_of_an_axis_leave_room_for_its_label_on_a_phone() -> None:
    for top, begins in ((1.0, 64), (0.02, 75), (1_000_000.0, 113)):
        drawn = lines("loss", "", Axis("day"), Axis("loss", low=0), [Series("a", [(0, 0), (1, top)])])
        assert f'x1="{begins}"' in drawn, re.findall(r'class="grid" x1="(\d+)"', drawn)


def test_a_long_upright_label_has_two_lines_and_a_longer_one_is_whole_in_the_words() -> None:
    def drawn(label: str) -> tuple[list[str], str]:
        chart = lines("cost", "What it costs.", Axis("day"), Axis(label, low=0), [Series("a", [(0, 0), (1, 1)])])
        return re.findall(r"rotate\(-90 [^>]+>([^<]+)</text>", chart), chart

    assert drawn("share of outcomes that are 1")[0] == ["share of outcomes that are 1"]
    two, chart = drawn("EUR of the airport's budget for each prediction")
    assert two == ["EUR of the airport&#39;s budget", "for each prediction"]
    assert "Upright axis" not in chart and 'class="grid" x1="71"' in chart
    longest = "minutes that passengers wait at a gate of a terminal, on average, for each prediction"
    shown, chart = drawn(longest)
    assert shown == ["minutes that passengers wait", "at a gate of a terminal, on…"]
    assert chart.count(f"What it costs. Upright axis: {longest}.") == 2, "in the caption and in words"


def test_today_says_how_long_it_took_and_opens_the_feeds(reader: Reader) -> None:
    page = reader.get("/").text
    assert "latency 9 min" in page and "/dag?dag_id=project_1_prepare" in page


def test_a_training_report_is_linked_as_a_file_where_mlflow_serves_it() -> None:
    from nightly_web.model import report_links

    report, run = report_links("runs:/0ab/report/g 1.html", "http://mlflow")
    assert (report.href, run.href) == (
        "http://mlflow/get-artifact?path=report%2Fg+1.html&run_uuid=0ab",
        "http://mlflow/#/runs/0ab",
    )
    assert [each.text for each in report_links("runs:/0ab/report/g.html", "https://x.azuredatabricks.net/ml")] == [
        "MLflow run"
    ]
    assert report_links("runs:/0ab/report/g.html", None) == ["runs:/0ab/report/g.html"]
    assert report_links(None, "http://mlflow") == []


def test_without_the_database_a_page_says_what_to_do(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_NIGHTLY_DATABASE_OPS_READER", "postgres://of_pages@/x?host=/nowhere")
    away = reader.get("/")
    assert away.status_code == 503 and "The shared database does not answer." in away.text
    assert "/nowhere" not in away.text
    monkeypatch.delenv("AIRFLOW_CONN_NIGHTLY_DATABASE_OPS_READER")
    missing = reader.get("/")
    assert missing.status_code == 503 and "has no connection nightly_database_ops_reader" in missing.text


def test_pages_cannot_write(reader: Reader) -> None:
    from nightly_web.database import DatabaseError, open_views

    for statement in ("DELETE FROM alerts", "CREATE TEMPORARY TABLE x (n integer)"):
        with pytest.raises(DatabaseError), open_views() as views:
            views.rows(statement)
    with open_views() as views:
        assert views.row("SHOW transaction_read_only") == {"transaction_read_only": "on"}


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of two colours (WCAG 2.2, 1.4.3)."""

    def luminance(colour: str) -> float:
        parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_colours_have_the_contrast_of_wcag_aa() -> None:
    style = (PLUGINS / "nightly_web" / "web.css").read_text(encoding="utf-8")
    pairs = dict(re.findall(r"--([\w-]+): light-dark\((#\w{6}, #\w{6})\)", style))
    for theme in (0, 1):
        colours = {name: pair.split(", ")[theme] for name, pair in pairs.items()}
        for text in ("ink", "soft", "link", "bad", "warn"):
            assert contrast(colours[text], colours["paper"]) >= 4.5, (text, theme)
        for text, box in (
            ("ink", "box"),
            ("bad", "bad-box"),
            ("warn", "warn-box"),
            ("ink", "bad-box"),
            ("soft", "box"),
        ):
            assert contrast(colours[text], colours[box]) >= 4.5, (text, box, theme)
        for line in ("s0", "s1", "s2", "s3", "s4", "s5"):
            assert contrast(colours[line], colours["paper"]) >= 3, (line, theme)


def test_a_trend_breaks_where_a_day_has_no_value() -> None:
    drawn = trend("log loss", [0.3, 0.2, None, 0.4, 0.1])
    assert drawn.count("<polyline") == 2 and 'aria-label="log loss"' in drawn
    assert trend("nothing", [None, float("nan")]) == ""


def test_events_are_lines_in_a_chart_and_labels_do_not_cover_each_other() -> None:
    events = [Event(n, f"v{n}", f"version {n}") for n in (1, 2, 50)]
    axis = Axis("day", low=0, high=100)
    drawn = lines("loss", "", axis, Axis("loss"), [Series("a", [(0, 1), (100, 2)])], events=events)
    assert drawn.count('<line class="event"') == 3
    assert [label in drawn for label in (">v1<", ">v2<", ">v50<")] == [True, False, True]


def test_moments_are_in_the_zone_of_the_project() -> None:
    from datetime import UTC, datetime

    at = datetime(2026, 11, 30, 2, 30, tzinfo=UTC)
    shown = [words.moment(at, zone) for zone in ("America/New_York", None, "Not/AZone")]
    assert shown == ["2026-11-29 21:30 EST", "2026-11-30 02:30 UTC", "2026-11-30 02:30 UTC"]
