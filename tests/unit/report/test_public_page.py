"""The page for everybody: public columns only, no text that is markup, the same bytes, bounded whatever comes in."""

import csv
import json
import re
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from include.config.loading import load_model, load_project
from include.core.project import Project
from include.core.public_page import PublicPage
from include.core.yaml_file import read_yaml
from include.io.postgres.migrations.model_views import columns_of
from include.io.public_pages import digest_of, write_csv
from include.report import public_page
from include.report.period_facts import DayOfVersion, LossDay, MetricDay
from include.report.public_facts import (
    MAX_CELL,
    Download,
    PublicFacts,
    PublicModel,
    ShownBatch,
    card_sentences,
    cells_of,
    due_after,
    shown_columns,
)
from include.report.public_page import MAX_ROW_BYTES, make_public_page, rows_as_json
from tests.chromium import chromium
from tests.pages import FORMULA, HOSTILE, LOADING, MARKUP, Structure

FERRIES = load_project("ferries")
DAY = date(2013, 3, 7)
DEPARTS = datetime(2013, 3, 7, 15, 5, tzinfo=UTC)


def columns(model: str = "late_ferry", project: Project = FERRIES) -> list[Any]:
    declared = load_model(model)
    return shown_columns(project, declared, columns_of(project, declared))


def row(n: int, company: str = "UA", dest: str = "HOB") -> list[Any]:
    """Return probability, decision, then company, ferry, origin, dest, departs_at, distance_miles."""
    return [0.9 - n / 1000, float(n < 3), company, 100 + n, "BAT", dest, DEPARTS, 200.0 + n]


def shown(*rows: list[Any], **changes: Any) -> PublicModel:
    late = load_model("late_ferry")
    days = [DAY - timedelta(days=n) for n in range(9, 0, -1)]
    made = PublicModel(
        name="late_ferry",
        title="Late ferry",
        purpose="who waits takes another pier",
        metric="log_loss",
        problem_type="binary",
        meanings=late.problem.performance_metrics,
        card=["Predicts whether a ferry is late."],
        limits=["Storms are not known."],
        columns=columns(),
        batch=ShownBatch(DAY, 7, 3, "2.1.0", DEPARTS, datetime(2013, 3, 7, 8, 14, tzinfo=UTC), len(rows)),
        due=due_after(FERRIES, late, DAY),
        rows=cells_of(columns(), rows, FERRIES.zone),
        published=[DayOfVersion(day, 3, 40) for day in [*days, DAY]],
        losses=[LossDay(day, 40, 0.45, 0.5) for day in days],
        metrics=[MetricDay(day, name, 0.3, 40) for day in days for name in late.problem.performance_metrics],
        files=[Download("late_ferry-2013-03-07-00ff.csv", "late_ferry-2013-03-07.csv", "all: 3 rows", 4_000)],
    )
    return replace(made, **changes)


def page_of(*models: PublicModel) -> str:
    return make_public_page(PublicFacts("ferries", "Ferries", "America/New_York", models))


def data_of(page: str) -> list[Any]:
    [text] = re.findall(r'<script type="application/json" class="data">(.*?)</script>', page, re.DOTALL)
    found: list[Any] = json.loads(text)
    return found


def test_it_has_the_public_columns_of_the_entity_and_predictions_and_no_other() -> None:
    assert [each.name for each in columns()] == ["score", "prediction", *FERRIES.entity.public]
    assert {FERRIES.public[name][1].data_class for name in FERRIES.entity.public} == {"public"}
    assert [each.name for each in columns("ferry_delay")] == ["prediction", *FERRIES.entity.public]
    personal = {"entity_id", "vessel", "contact_email"}
    assert not personal & {each.name for each in columns()}


def test_values_are_written_as_people_read_them_with_times_in_the_projects_zone() -> None:
    [cells] = cells_of(columns(), [row(0)], FERRIES.zone)
    assert cells == ["90.0 %", "yes", "UA", "100", "BAT", "HOB", "2013-03-07 10:05", "200"]
    [cells] = cells_of(columns(), [[*row(0)[:5], None, DEPARTS, 200.125]], FERRIES.zone)
    assert (cells[5], cells[7]) == ("–", "200.125")
    about = next(each.about for each in columns() if each.name == "departs_at")
    assert "Local time, America/New_York" in about


def test_hostile_values_are_text_in_the_page_and_in_its_data() -> None:
    hostile = "</script><script>alert(1)</script>"
    page = page_of(
        shown(
            *(row(n, text, text) for n, text in enumerate((*HOSTILE, hostile))),
            title=MARKUP,
            purpose=hostile,
            card=[MARKUP, hostile],
            limits=[hostile],
        )
    )
    harmless = page_of(shown(*(row(n, f"c{n}", f"d{n}") for n in range(len(HOSTILE) + 1)), card=["a", "b"]))
    tags = [tag for tag, _ in Structure(page).elements]
    assert tags == [tag for tag, _ in Structure(harmless).elements]
    column = data_of(page)[2]
    assert {hostile, MARKUP} <= set(column["of"]), "what is searched is the value itself"
    assert "<" not in rows_as_json(shown(row(0, hostile)))


def test_it_loads_and_runs_nothing_but_its_own_script() -> None:
    page = page_of(shown(*map(row, range(30))))
    elements = Structure(page).elements
    [policy] = [dict(at)["content"] or "" for tag, at in elements if tag == "meta" and "http-equiv" in dict(at)]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert "connect-src" not in policy
    for tag, attributes in elements:
        for name, value in attributes:
            assert not name.startswith("on") and name != "style", (tag, name)
            if name in LOADING:
                assert value is not None
                assert re.fullmatch(r"#\w+|[\w-]+\.csv", value), (tag, name, value)
    assert "//" not in page.split("<style>")[1].split("</style>")[0].replace("/*", "").replace("*/", "")


def test_equal_facts_are_equal_bytes_and_another_value_is_another_page() -> None:
    assert page_of(shown(*map(row, range(30)))) == page_of(shown(*map(row, range(30))))
    assert page_of(shown(row(0))) != page_of(shown(row(1)))


def test_it_says_which_rows_it_leaves_out() -> None:
    whole = page_of(shown(*map(row, range(30))))
    assert "Not all are in this page" not in whole
    assert Structure(whole).text.count("200–") == 0
    assert len(data_of(whole)[0]["all"]) == 30
    batch = shown(*map(row, range(30))).batch
    assert batch is not None
    cut = page_of(shown(*map(row, range(30)), batch=replace(batch, rows=97_000)))
    assert "it has the 30 highest of 97,000" in Structure(cut).text


def test_a_page_of_long_values_stays_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(public_page, "MAX_ROW_BYTES", 40_000)
    long = [row(n, f"{n}{'x' * 1000}") for n in range(1000)]
    found = shown(*long)
    assert max(len(cell) for each in found.rows for cell in each) == MAX_CELL
    page = page_of(found)
    assert len(page) < 40_000 + len(page_of(shown(*long[:30])))
    assert re.search(r"it has the (125|250) highest of 1,000", page)
    assert MAX_ROW_BYTES == 3_000_000


def test_before_the_first_publication_and_before_the_first_outcome_it_says_so() -> None:
    empty = page_of(shown(batch=None, due=None, rows=[], losses=[], metrics=[], published=[], files=[]))
    text = Structure(empty).text
    assert "No predictions are in this page." in text
    assert "no outcome of a published prediction is known" in text
    assert "data-due=" not in empty
    started = Structure(page_of(shown(row(0), losses=[], metrics=[]))).text
    assert "Run date 2013-03-07: 1 prediction of version 2.1.0, published 2013-03-07 03:14 EST" in started
    assert "no outcome of a published prediction is known" in started


def test_how_good_it_was_is_said_against_giving_always_the_same_answer() -> None:
    text = Structure(page_of(shown(row(0)))).text
    assert "On 9 run dates with known outcomes, the error (log_loss: mean negative log likelihood, in nats)" in text
    assert "That is 10.0 % less error than without a model." in text
    worse = shown(row(0), losses=[LossDay(DAY, 40, 0.6, 0.5)])
    assert "That is 20.0 % more error" in Structure(page_of(worse)).text


def test_sentences_of_the_model_card_are_plain_text() -> None:
    card = (
        "# late: is it late?\n\nModel card. `model.yaml` has it.\n\n**Predicts** the\nprobability (`score`), see "
        "[there](../x.md).\n**Not for** crews.\n\n## Data\nReal.\n\n## Limits\n- **Storms** are\n  not known.\n- One "
        "year.\n\n<!-- model-card: written -->\n## Figures of the champion\n- none\n"
    )
    begin, limits = card_sentences(card)
    assert begin == ["Predicts the probability (score), see there. Not for crews."]
    assert limits == ["Storms are not known.", "One year."]
    assert card_sentences("") == ([], [])


def test_a_spreadsheet_runs_no_value_of_a_file(tmp_path: Path) -> None:
    texts = [FORMULA, "+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "plain", "a,b\n=1"]
    rows = [[text, -1.5, DEPARTS, DAY, None, True] for text in texts]
    columns = ["text", "number", "at", "day", "none", "yes"]
    zone = ZoneInfo("America/New_York")
    for name in ("a.csv", "b.csv"):
        assert write_csv(tmp_path / name, columns, iter(rows), zone) == len(texts)
    assert digest_of(tmp_path / "a.csv") == digest_of(tmp_path / "b.csv")
    with (tmp_path / "a.csv").open(encoding="utf-8-sig", newline="") as file:
        head, *lines = csv.reader(file)
    assert head == columns
    assert [line[0] for line in lines] == [f"'{text}" for text in texts[:6]] + texts[6:]
    assert lines[0][1:] == ["-1.5", "2013-03-07T10:05:00-05:00", "2013-03-07", "", "true"]


def test_a_project_says_which_models_are_public_and_needs_public_columns() -> None:
    assert FERRIES.shown_page is None
    assert not FERRIES.shows_publicly("late_ferry")
    some = FERRIES.model_copy(update={"public_page": PublicPage(models=("late_ferry",))})
    assert [some.shows_publicly(name) for name in ("late_ferry", "ferry_delay")] == [True, False]
    declared = {**read_yaml(FERRIES.folder / "project.yaml"), "name": "ferries", "folder": FERRIES.folder}
    entity = declared["entity"] | {"public": []}
    with pytest.raises(ValueError, match=r"public_page: entity\.public names no column"):
        Project.model_validate(declared | {"entity": entity, "public_page": True})


def test_people_search_filter_and_sort_it_and_see_that_it_is_old(tmp_path: Path) -> None:
    rows = [row(n, "UA" if n % 3 else "WS", MARKUP if n == 7 else f"pier {n}") for n in range(60)]
    file = tmp_path / "index.html"
    file.write_text(page_of(shown(*rows)), encoding="utf-8")
    first, count = "document.querySelector('.rows tbody').rows", "document.querySelector('.count').textContent"
    with chromium(tmp_path / "browser") as browser:
        browser.ask("Emulation.setDeviceMetricsOverride", width=360, height=800, deviceScaleFactor=1, mobile=True)
        browser.open(file.as_uri())
        assert browser.run("document.documentElement.scrollWidth") == 360, "it is not wider than a phone"
        assert browser.run(count) == "25 of 60 shown, the highest first."
        assert browser.run("document.querySelector('.late').hidden") is False, "2013 is long ago"
        browser.run("document.querySelector('.more').click()")
        assert browser.run(f"{first}.length") == 60
        browser.run(
            "(() => { const i = document.querySelector('input'); i.value = 'onerror 107';"
            "i.dispatchEvent(new Event('input')); })()"
        )
        browser.wait(f"{count} === '1 of 1 found, the highest first.'")
        assert browser.run(f"{first}[0].cells[5].textContent") == MARKUP, "a value is text"
        assert browser.run("document.images.length") == 0
        browser.run("document.querySelector('.reset').click()")
        browser.run(
            "(() => { const s = [...document.querySelectorAll('select')].find((e) => e.labels[0].textContent"
            ".startsWith('company')); s.value = '1'; s.dispatchEvent(new Event('change')); })()"
        )
        assert browser.run(count) == "20 of 20 found, the highest first."
        browser.run("[...document.querySelectorAll('.rows th button')].find((e) => e.textContent === 'ferry').click()")
        assert browser.run(f"{first}[0].cells[3].textContent") == "157", "numbers, the highest first"
        assert browser.run("document.querySelector('[aria-sort]').ariaSort") == "descending"
        assert browser.errors() == []

        browser.ask("Emulation.setScriptExecutionDisabled", value=True)
        browser.open(file.as_uri())
        assert browser.run(f"{first}.length") == 25, "rows are there without JavaScript"
        assert browser.run("document.querySelectorAll('svg.chart').length") == 2
        assert browser.run("document.querySelector('.find').hidden") is True
