"""The insight: planted unfairness and planted costs are found, and charts survive the way through a notebook."""

import json
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
from markdown_it import MarkdownIt
from markupsafe import Markup
from scipy.stats import hypergeom

from include.report import fairness as fairness_module
from include.report import measures
from include.report.alternatives import alternatives
from include.report.fairness import fairness, rates
from include.report.subject import ReportSubject
from nightly_pages.charts import Axis, Bar, Series, bars, lines
from nightly_pages.pictures import picture, restored
from tests.pages import HOSTILE, Structure, assert_complete_in_itself
from tests.unit.report.test_report import KINDS, subject_of
from tools.insight import words
from tools.insight.notebook import differences, environment
from tools.insight.page import make_page
from tools.insight.section import ModelInsight


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """A metric of scikit-learn takes a millisecond, and a report asks for it often."""
    monkeypatch.setattr(measures, "RESAMPLES", 40)


def unfair(kind: str) -> ReportSubject:
    """Return a subject whose scores are too high for the rows of one origin."""
    subject = subject_of(kind)
    of_bat = (subject.holdout_rows["origin"] == "BAT").to_numpy()
    score = subject.challenger.score
    moved = np.clip(score + 0.2, 0, 1) if kind == "binary" else score + 4
    there = of_bat if score.ndim == 1 else of_bat[:, None]
    return replace(subject, challenger=replace(subject.challenger, score=np.where(there, moved, score)))


@pytest.mark.parametrize(
    ("kind", "rate"), [("binary", "calibration gap"), ("regression", "mean error"), ("count", "level")]
)
def test_a_version_that_is_off_for_one_slice_is_found_and_a_fair_one_is_not(kind: str, rate: str) -> None:
    found = fairness(unfair(kind))
    assert ("BAT", rate) in {(each.value, each.rate.name) for each in found.beyond_chance}
    bat = next(each for each in found.comparisons if (each.value, each.rate.name) == ("BAT", rate))
    assert bat.difference > 0 and bat.chance is not None and bat.chance < 0.001
    assert bat.inside.low is not None and bat.inside.low < bat.inside.value < (bat.inside.high or 0)
    assert fairness(subject_of(kind)).beyond_chance == []


@pytest.mark.parametrize("kind", KINDS)
def test_rates_are_those_of_the_rows(kind: str) -> None:
    subject = subject_of(kind)
    found = {each.name: each for each in rates(subject)}
    truth, decided = subject.truth, subject.problem.decide(subject.challenger.score, 0.5)
    if kind == "binary":
        rate = found["false negative rate"]
        assert rate.top.sum() / rate.bottom.sum() == pytest.approx((decided[truth == 1] == 0).mean())
    elif kind == "multiclass":
        assert found["wrong labels"].top.mean() == pytest.approx((decided != truth).mean())
    else:
        assert found["too low"].top.mean() == pytest.approx(
            (subject.problem.point(subject.challenger.score) < truth).mean()
        )
    assert found["cost"].top.mean() == pytest.approx(
        subject.model.costs.by_row(truth, decided, subject.model.classes).mean()
    )


def test_a_column_that_may_be_personal_is_no_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ReportSubject, "is_personal", lambda *_: True)
    assert fairness(subject_of("binary")).comparisons == ()


def test_outcomes_that_are_too_rare_in_a_slice_are_not_compared() -> None:
    subject = subject_of("binary")
    of_bat = (subject.holdout_rows["origin"] == "BAT").to_numpy()
    rare = np.where(of_bat, 0.0, subject.truth)
    rare[np.flatnonzero(of_bat)[:5]] = 1.0
    changed = replace(subject, holdout_rows=subject.holdout_rows.with_columns(label=rare))
    compared = {each.rate.name for each in fairness(changed).comparisons if each.value == "BAT"}
    assert "false negative rate" not in compared and "false positive rate" in compared


def of_few_rows(kind: str, share: float, rows: int = 40) -> tuple[ReportSubject, np.ndarray]:
    """Return a subject whose outcomes are all 1 in a small slice, and 1 for a share of all others; scores are right."""
    subject = subject_of(kind)
    rng, count = np.random.default_rng(5), len(subject.truth)
    inside = rng.permutation(count) < rows
    truth = np.where(inside, 1.0, rng.random(count) < share)
    score = np.full(count, share) if kind == "binary" else np.tile([1 - share, share, 0.0], (count, 1))
    changed = subject.holdout_rows.with_columns(label=truth, origin=np.where(inside, "BAT", "PAU"))
    gate = subject.model.gate.model_validate({"checks": [{"kind": "slices", "by": ["origin"], "min_rows": 30}]})
    of_model = subject.model.model_copy(update={"gate": gate, "decision_threshold": 0.99})
    challenger = replace(subject.challenger, score=score, decision_threshold=0.99)
    return replace(subject, model=of_model, holdout_rows=changed, challenger=challenger), inside


@pytest.mark.parametrize(
    ("kind", "affected"),
    [("binary", {"calibration gap", "cost"}), ("multiclass", {"wrong labels", "calibration gap", "cost"})],
)
def test_rows_that_are_all_alike_are_no_proof_if_they_are_few(kind: str, affected: set[str]) -> None:
    subject, inside = of_few_rows(kind, 0.95)
    assert (subject.truth[inside] == 1).all() and 0.9 < subject.truth[~inside].mean() < 1
    few = chances(subject, affected)
    assert len(few) == len(affected) and min(few) > 0.05
    many, _ = of_few_rows(kind, 0.5)
    found = chances(many, affected)
    assert len(found) == len(affected) and max(found) < 0.001


def chances(subject: ReportSubject, names: set[str]) -> list[float]:
    found = {each.rate.name: each.chance for each in fairness(subject).comparisons if each.value == "BAT"}
    return [chance for name in names if (chance := found[name]) is not None]


def test_a_share_of_all_of_few_rows_is_compared_exactly_and_its_interval_has_a_width() -> None:
    subject, inside = of_few_rows("multiclass", 0.95)
    [found] = [
        each for each in fairness(subject).comparisons if (each.value, each.rate.name) == ("BAT", "wrong labels")
    ]
    others = int((subject.truth[~inside] != 1).sum()), int((~inside).sum())
    # the probability that none of 40 rows drawn from all is wrong, and of all tables that are no more probable
    drawn = hypergeom(len(subject.truth), others[0], 40)
    alone = sum(p for p in drawn.pmf(np.arange(41)) if p <= drawn.pmf(0) * (1 + 1e-9))
    assert fairness_module._of_counts((0, 40), others)[2] == pytest.approx(alone)
    assert found.inside.value == 0 and found.inside.low == 0
    assert found.inside.high == pytest.approx(1.96**2 / (40 + 1.96**2), abs=1e-4), "Wilson's, of none of 40"


def test_the_cheapest_threshold_is_where_theory_says_and_the_current_one_costs_what_the_report_says() -> None:
    subject = subject_of("binary")
    found, reported = alternatives(subject), measures.expected_cost(subject)
    assert found is not None and reported is not None
    current = next(each for each in found.curve if each.at == found.current)
    assert found.current == 0.5
    assert current.cost.value == pytest.approx(reported.version.value)
    assert "0.167" in (found.by_theory or "")
    assert 0.08 < found.cheapest.at < 0.3
    assert found.cheapest.difference.high is not None and found.cheapest.difference.high < 0
    assert found.later is not None and found.later.difference.value < 0


@pytest.mark.parametrize("kind", ["regression", "count", "quantile"])
def test_numbers_that_are_dearer_when_too_low_are_cheaper_when_raised(kind: str) -> None:
    found = alternatives(subject_of(kind))
    assert found is not None
    assert found.cheapest.at > 0
    assert found.cheapest.rates["outcome not above"] == pytest.approx(0.75, abs=0.1)


@pytest.mark.parametrize(("unit", "decimals"), [(1e-4, 6), (1.0, 2), (1e6, -4)])
def test_amounts_are_as_precise_as_the_unit_of_the_outcome_needs(unit: float, decimals: int) -> None:
    subject = subject_of("regression")
    changed = replace(
        subject,
        holdout_rows=subject.holdout_rows.with_columns(pl.col("label") * unit),
        challenger=replace(subject.challenger, score=subject.challenger.score * unit),
    )
    found = alternatives(changed)
    assert found is not None
    amounts = [each.at for each in found.table]
    assert amounts == [round(each, decimals) for each in amounts]
    names = [each.name for each in found.table]
    assert len({*names}) == len(names) >= 6, "each amount has its own name"
    for each in found.table:
        assert each.at == 0 or float(each.name.replace(",", "")) == pytest.approx(each.at)
    assert len(found.curve) > 30, "a curve has as many places in any unit"


def test_labels_are_decided_by_their_expected_cost() -> None:
    subject = subject_of("multiclass")
    dear = subject.model.costs.model_copy(update={"matrix": {"late": {"early": 50.0, "on time": 50.0}}})
    found = alternatives(replace(subject, model=subject.model.model_copy(update={"costs": dear})))
    assert found is not None
    assert [each.name for each in found.table][:2] == ["most probable label", "least expected cost"]
    assert found.table[1].difference.value < 0
    same = alternatives(subject)
    assert same is not None and same.table[1].difference.value == 0


@pytest.mark.parametrize("text", HOSTILE)
def test_a_picture_is_the_chart_and_the_page_gets_the_chart_back(text: str) -> None:
    for figure in (
        lines(
            text,
            text,
            Axis("x"),
            Axis("y"),
            [Series(text, [(0, 1), (1, 3)]), Series("guide", [(0, 0), (1, 1)], guide=True)],
        ),
        bars(text, text, "EUR", [Bar(text, 2, 1, 3), Bar("b", 4)]),
    ):
        svg, numbers = picture(figure)
        again = restored(svg, numbers)
        assert_complete_in_itself(f"<style></style>{again}", draws=True)
        drawn = [
            [(tag, kept) for tag, attributes in Structure(str(each)).elements if (kept := geometry(attributes))]
            for each in (figure, again)
        ]
        assert drawn[0] == drawn[1] != []
        assert "4" in numbers or "3" in numbers


def geometry(attributes: Any) -> list[tuple[str, float | str]]:
    named = {"x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "points", "width", "height"}
    return [(name, as_number(value)) for name, value in sorted(attributes) if name in named]


def as_number(value: str) -> float | str:
    try:
        return float(value)
    except ValueError:
        return value


def notebook_of(section: ModelInsight) -> Any:
    """Return the cells of a section with their outputs, as a notebook has them."""
    shown: list[Iterator[Any]] = [
        section.summary(), section.what_drives_it(), section.is_it_fair(), section.another_threshold()
    ]  # fmt: skip
    return SimpleNamespace(
        cells=[SimpleNamespace(cell_type="markdown", source="## Late ferry", get=lambda *_: ())]
        + [
            SimpleNamespace(
                cell_type="code", get=lambda *_, each=each: [{"data": one._repr_mimebundle_()} for one in each]
            )
            for each in map(list, shown)
        ]
    )


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_model_gives_a_page_that_is_complete_in_itself(kind: str) -> None:
    html = make_page("Ferries", notebook_of(ModelInsight(subject_of(kind))))
    assert_complete_in_itself(html.replace('role="img"', ""), draws=True)
    for part in ("Version 2", "<b>Permutation importance.</b>", "Holm", "(current", "EUR each"):
        assert part in html, part


def test_the_notebooks_process_gets_no_login_and_no_key(tmp_path: Any) -> None:
    given = {
        "PATH": "/bin",
        "NIGHTLY_DATABASE_URL": "a",
        "NIGHTLY_HASH_KEY": "b",
        "OPS_READER_URL": "c",
        "AWS_SECRET_ACCESS_KEY": "d",
    }
    found = environment(given, tmp_path, "/home/x")
    assert not {"a", "b", "c", "d"} & {*found.values()}
    assert found["PATH"] == "/bin" and found["INSIGHT_FOLDER"] == str(tmp_path)


def executed(text: str) -> dict[str, Any]:
    output = {"output_type": "display_data", "data": {"text/plain": text}}
    return {"cells": [{"cell_type": "code", "source": ["show()"], "outputs": [output]}]}


def test_a_run_that_says_something_else_is_found_and_last_digits_are_not() -> None:
    before = executed("cost 1,203 (0.997 to 1.43)\nall rows")
    assert differences(before, json.loads(json.dumps(before))) == []
    assert differences(before, executed("cost 1,204 (0.998 to 1.43)\nall rows")) == []
    assert differences(before, executed("cost 1,303 (0.997 to 1.43)\nall rows")) == [
        "'cost 1,203 (0.997 to 1.43)' is now 'cost 1,303 (0.997 to 1.43)'"
    ]
    assert len(differences(before, executed("cost 1,203 (0.997 to 1.43)\nsome rows"))) == 1
    assert differences(before, executed("cost")) == ["it has 1 lines of output instead of 2"]
    other = executed("cost 1,203 (0.997 to 1.43)\nall rows")
    other["cells"][0]["source"] = ["hide()"]
    assert differences(before, other) == ["the cells are others"]


@pytest.mark.parametrize("text", ["![x](https://example.com/x)", "[type](https://example.com)", "<b>x</b>", "**x**"])
def test_a_slice_in_a_sentence_is_text_also_where_a_notebook_renders_markdown(text: str) -> None:
    found = fairness(unfair("binary"))
    compared = tuple(replace(each, value=text) if each.value == "BAT" else each for each in found.comparisons)
    sentence = words.fair(replace(found, comparisons=compared))
    assert text not in sentence
    html = MarkdownIt("commonmark").render(sentence)
    assert not {"a", "img", "b", "strong"} & {tag for tag, _ in Structure(html).elements}
    assert text in Structure(html).text


def test_html_in_a_cell_of_a_table_is_text() -> None:
    from tools.insight.shown import Numbers

    html = Numbers(("a", "b"), [("<b>x</b>", "1")], right=("b",))._repr_mimebundle_()["text/html"]
    assert "&lt;b&gt;x&lt;/b&gt;" in html and '<td class="n">1</td>' in html
    assert not isinstance(html, Markup), "a notebook is JSON, which knows no other texts"
