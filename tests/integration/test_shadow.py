"""Shadows on a real PostgreSQL: unpublished scores, the comparison on the same entities, and how a shadow ends."""

from collections.abc import Callable, Sequence
from datetime import date, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from include.config.loading import load_model, load_project
from include.config.model import Model
from include.core.errors import ActionRequiredError, DataError
from include.core.interval import Interval
from include.core.lifecycle import BY_PRODUCT, State
from include.core.project import Project
from include.core.records import BY_GATE, Check, ScoredDay, ShadowEnded
from include.core.settings import Settings
from include.gate.config import Gate
from include.gate.shadow import Shadow
from include.io import postgres
from include.steps import hold_as_shadow
from include.steps.end_shadow import end_shadow
from include.steps.outcomes import outcomes
from include.steps.promote import promote
from include.steps.publish import publish
from include.steps.shadow import read_shadow_versions, shadow
from tests.integration import small
from tests.integration.small import DAY
from tests.integration.training import MODEL, after, train_and_gate

NEXT, LATER = DAY + timedelta(days=1), DAY + timedelta(days=2)
DAYS = Interval(start=DAY, end=NEXT)
TRAINED = DAY - timedelta(days=1)
ALL_LATE, NONE_LATE = [20.0] * 4, [0.0] * 4
VIEWS = ("current_predictions", "newest_predictions", "predictions_with_outcomes", "model_status", "entities_ferries")


@pytest.fixture
def ferries() -> Project:
    return load_project("ferries")


def on_trial(**declared: Any) -> Model:
    """Return a model whose shadows need two days with outcomes, and any number of rows."""
    checks = [c for c in load_model("late_ferry").gate.checks if c.kind != "champion"]
    given = {"checks": [*(c.model_dump() for c in checks), {"kind": "champion", "at_most": 0.01, "min_rows": 1}]}
    settings = {"days_with_outcomes": 2, "wait_days": 5, **declared}
    update = {"gate": Gate.model_validate(given), "shadow": Shadow.model_validate(settings)}
    return load_model("late_ferry").model_copy(update=update)


LATE = on_trial()


def add_version(settings: Settings, version: int, trained: date) -> None:
    """Record the fit of a version, as `fit` and `evaluate` do."""
    run = f"run of {version}"
    fit = {"mlflow_run": run, "model": LATE.name, "candidate": "linear", "fit_end": trained, "trained_day": trained}
    digests = {"fit_digest": f"{version:064x}", "model_digest": f"{version:064x}", "run_id": "of a test"}
    numbered = {"model": LATE.name, "model_version": version, "mlflow_run": run, "run_id": "of a test"}
    with postgres.connection.engine(settings).begin() as connection:
        connection.execute(sa.insert(postgres.schema.fits).values(**fit, **digests))
        connection.execute(sa.insert(postgres.schema.model_versions).values(**numbered))


def move(settings: Settings, version: int, to: State, by: str = BY_GATE) -> None:
    with postgres.promotions.open_promotion_history(settings, LATE.name) as book:
        book.move(version, to, by=by, why="of a test")


def state(settings: Settings, version: int) -> State:
    return postgres.version_moves.read_states(settings, LATE.name)[version]


@pytest.fixture
def running(settings: Settings, ferries: Project) -> Settings:
    """Version 1 is the champion and published on two days; version 2 is pending, and has scores of both."""
    small.prepare(settings, ferries, DAY, NEXT, LATER)
    small.promoted(settings, LATE.name, 1, DAY)
    for version, trained in ((1, TRAINED - timedelta(days=9)), (2, TRAINED)):
        add_version(settings, version, trained)
        small.score(settings, ferries, LATE.name, DAY, NEXT, version=version)
    publish(LATE, DAYS, settings)
    move(settings, 2, State.PENDING)
    return settings


def store(settings: Settings, version: int = 2) -> None:
    days = [ScoredDay(day=day, model_version=version, rows=4) for day in DAYS.days]
    shadow(LATE, DAYS, settings, days=days)


def know(settings: Settings, project: Project, day: date, delays: Sequence[float | None]) -> None:
    """Deliver and record the outcomes of a day, as its next run date does."""
    run_date = day + timedelta(days=1)
    moment = small.as_of(run_date) - timedelta(hours=1)
    small.deliver(settings, project, "logbook", day, small.logbook_of(day, delays), available_from=moment)
    outcomes(project, Interval.of(run_date), settings)


def rows_of(settings: Settings, *tables: str) -> dict[str, list[dict[str, Any]]]:
    """Return all rows of tables, with what changes whenever one is written."""
    return {
        table: small.select(settings, f"SELECT xmin::text, ctid::text, * FROM {table} ORDER BY ctid")
        for table in tables
    }


def decided(settings: Settings, *run_dates: date, model: Model = LATE) -> ShadowEnded:
    return [end_shadow(model, Interval.of(day), settings) for day in run_dates][-1]


# --- scores -----------------------------------------------------------------------------------------------------------


def test_scores_of_a_shadow_are_stored_once_and_no_reader_sees_them(running: Settings) -> None:
    before = {view: small.select(running, f"SELECT * FROM {view}") for view in VIEWS}
    moves = rows_of(running, "publications", "published")
    store(running)
    assert {view: small.select(running, f"SELECT * FROM {view}") for view in VIEWS} == before
    assert rows_of(running, "publications", "published") == moves
    batches = small.select(running, "SELECT day, rows FROM batches WHERE model_version = 2 ORDER BY day")
    assert batches == [{"day": DAY, "rows": 4}, {"day": NEXT, "rows": 4}]
    stored = rows_of(running, "batches", "predictions")
    store(running)
    assert rows_of(running, "batches", "predictions") == stored


def test_scores_that_are_not_those_of_the_prepared_day_are_refused(running: Settings) -> None:
    with pytest.raises(DataError, match="the prepared day has 4 rows, and 3 were scored"):
        shadow(LATE, DAYS, running, days=[ScoredDay(day=DAY, model_version=2, rows=3)])
    assert small.select(running, "SELECT * FROM batches WHERE model_version = 2") == []


def test_each_day_has_the_shadow_that_it_had_then(running: Settings) -> None:
    days = Interval(start=TRAINED, end=LATER)
    assert read_shadow_versions(LATE, days, running) == dict.fromkeys([DAY, NEXT, LATER], 2)
    assert read_shadow_versions(load_model("late_ferry"), days, running) == {}
    with postgres.promotions.open_promotion_history(running, LATE.name) as book:
        book.end_shadow(postgres.shadows.ShadowEnd(2, NEXT, 1, False, 2, 8, 0.1, 0.01, "worse"))
        book.move(2, State.DECLINED, by=BY_PRODUCT, why="worse")
    add_version(running, 3, NEXT)
    move(running, 3, State.PENDING)
    assert read_shadow_versions(LATE, days, running) == {DAY: 2, NEXT: 2, LATER: 3}


# --- the decision -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("delays", "passed"), [(ALL_LATE, True), (NONE_LATE, False)])
def test_a_shadow_is_decided_once_enough_days_have_outcomes(
    running: Settings, ferries: Project, delays: list[float | None], passed: bool
) -> None:
    """Version 2 has the higher scores: better where all ferries are late, worse where none is."""
    store(running)
    know(running, ferries, DAY, delays)
    first = decided(running, NEXT)
    assert (first.model_version, first.passed, first.rows) == (2, None, 4)
    assert first.sentence == "late_ferry version 2: outcomes of 1 of 2 days and 4 of 1 rows are known; it goes on"
    assert state(running, 2) is State.PENDING
    know(running, ferries, NEXT, delays)
    ended = decided(running, LATER)
    assert (ended.passed, ended.rows) == (passed, 8)
    assert state(running, 2) is (State.PENDING if passed else State.DECLINED)
    [decision] = small.select(running, "SELECT * FROM shadow_decisions")
    assert (decision["model_version"], decision["champion_version"], decision["day"]) == (2, 1, LATER)
    assert (decision["passed"], decision["days"], decision["rows"]) == (passed, 2, 8)
    assert (decision["measured"] <= 0.01) is passed
    seen = small.select(running, "SELECT * FROM shadow_performance ORDER BY day")
    assert [(row["day"], row["model_version"], row["champion_version"], row["rows"]) for row in seen] == [
        (DAY, 2, 1, 4),
        (NEXT, 2, 1, 4),
    ]
    assert all((row["loss"] < row["champion_loss"]) is passed for row in seen)
    assert small.select(running, "SELECT * FROM human_actions WHERE action = 'decline'") == []
    # a repeated run keeps the decision
    rows = rows_of(running, "shadow_days", "shadow_ends", "version_moves")
    again = decided(running, LATER)
    assert (again.passed, again.sentence) == ((True, ended.sentence) if passed else (None, again.sentence))
    assert rows_of(running, "shadow_days", "shadow_ends", "version_moves") == rows


def test_only_rows_with_an_outcome_count_and_a_correction_is_measured_again(
    running: Settings, ferries: Project
) -> None:
    store(running)
    know(running, ferries, DAY, [20.0, 0.0])
    decided(running, NEXT)
    [before] = small.select(running, "SELECT rows, loss FROM shadow_performance")
    assert before["rows"] == 2
    moment = small.as_of(LATER) - timedelta(hours=2)
    corrected = small.logbook_of(DAY, ALL_LATE)
    small.deliver(running, ferries, "logbook", DAY, corrected, available_from=moment, name="b")
    outcomes(ferries, Interval.of(LATER), running)
    decided(running, NEXT)
    [now] = small.select(running, "SELECT rows, loss FROM shadow_performance")
    assert now["rows"] == 4
    assert now["loss"] != before["loss"]


def test_a_shadow_without_enough_days_expires(running: Settings, ferries: Project) -> None:
    know(running, ferries, DAY, ALL_LATE)  # it has no scores, as if it had failed each night
    assert decided(running, DAY + timedelta(days=4)).passed is None
    assert state(running, 2) is State.PENDING
    ended = decided(running, DAY + timedelta(days=5))
    assert ended.passed is False
    assert state(running, 2) is State.EXPIRED
    assert ended.sentence.startswith(f"expired on {DAY + timedelta(days=5)}: outcomes of 0 of 2 days")


def test_a_person_who_decides_meanwhile_wins(running: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    measure = postgres.shadows.replace_shadow_days

    def declined_meanwhile(*arguments: Any, **options: Any) -> Any:
        move(running, 2, State.DECLINED, by="Ada")
        return measure(*arguments, **options)

    monkeypatch.setattr(postgres.shadows, "replace_shadow_days", declined_meanwhile)
    with pytest.raises(DataError, match="version 2 was decided meanwhile"):
        decided(running, DAY + timedelta(days=5))
    assert small.select(running, "SELECT * FROM shadow_ends") == []


def test_a_champion_that_is_rolled_back_during_the_comparison_is_not_the_one_that_counts(
    running: Settings, ferries: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(running)
    know(running, ferries, DAY, ALL_LATE)
    know(running, ferries, NEXT, ALL_LATE)
    measure = postgres.shadows.replace_shadow_days

    def rolled_back_meanwhile(*arguments: Any, **options: Any) -> Any:
        small.promoted(running, LATE.name, 9, LATER)
        return measure(*arguments, **options)

    monkeypatch.setattr(postgres.shadows, "replace_shadow_days", rolled_back_meanwhile)
    with pytest.raises(DataError, match="version 1 is not the champion any more"):
        decided(running, LATER)
    assert small.select(running, "SELECT * FROM shadow_ends") == []


# --- promotion --------------------------------------------------------------------------------------------------------

TRIAL = MODEL.model_copy(update={"shadow": Shadow(days_with_outcomes=2, wait_days=9)})


@pytest.fixture
def held(trained: Settings) -> Settings:
    """Version 1 was promoted at once, because there was no champion; version 2 is the shadow."""
    assert train_and_gate(trained, TRIAL, after(0)).passed
    assert promote(TRIAL, after(1), trained, version=1).rows == 1
    assert train_and_gate(trained, TRIAL, after(1)).passed
    held_back = promote(TRIAL, after(2), trained, version=2).held_back
    assert held_back == (
        "version 2 scores beside the champion, unpublished, until the outcomes of 2 days are known; late_ferry_decide "
        "decides then"
    )
    return trained


def end(settings: Settings, version: int, *, day: date, passed: bool) -> None:
    with postgres.promotions.open_promotion_history(settings, MODEL.name) as book:
        book.end_shadow(
            postgres.shadows.ShadowEnd(version, day, 1, passed, 2, 1200, -0.01, 0.1, "log_loss 0.5 against 0.51")
        )


def champions(settings: Settings) -> list[tuple[int, date]]:
    rows = small.select(settings, "SELECT model_version, from_day FROM promotions ORDER BY id")
    return [(row["model_version"], row["from_day"]) for row in rows]


def test_a_version_is_promoted_after_its_days_as_a_shadow(held: Settings) -> None:
    assert champions(held) == [(1, after(1).start)]
    rows = rows_of(held, "version_moves", "promotions")
    assert promote(TRIAL, after(2), held, version=2).held_back  # the training is run again
    assert rows_of(held, "version_moves", "promotions") == rows
    end(held, 2, day=after(4).start, passed=True)
    promotion = promote(TRIAL, after(5), held, version=2)
    assert (promotion.rows, promotion.interval) == (1, after(5))
    assert promotion.why.endswith("; as a shadow: log_loss 0.5 against 0.51")
    assert champions(held) == [(1, after(1).start), (2, after(5).start)]
    # trainings before that day did not have to beat it
    to_beat = {
        days: postgres.promotions.read_champion_to_beat(held, MODEL.name, 9, after(days).start) for days in (4, 5)
    }
    assert to_beat == {4: 1, 5: 2}
    assert promote(TRIAL, after(5), held, version=2).rows == 0


@pytest.mark.parametrize("before_the_end", [True, False])
def test_a_shadow_is_promoted_over_the_champion_that_it_was_compared_with_only(
    held: Settings, before_the_end: bool
) -> None:
    """A person changes the champion during the trial: before the comparison, theirs counts; after it, it is void."""
    with postgres.promotions.open_promotion_history(held, MODEL.name) as book:
        book.add(9, after(3).start, by="Ada", why="storms", forced=True)
        champion = 9 if before_the_end else 1
        book.end_shadow(postgres.shadows.ShadowEnd(2, after(4).start, champion, True, 2, 1200, -0.01, 0.1, "better"))
    promotion = promote(TRIAL, after(5), held, version=2)
    if before_the_end:
        assert (promotion.rows, promotion.held_back) == (1, None)
        assert champions(held)[-1] == (2, after(5).start)
    else:
        assert promotion.held_back == (
            "as a shadow, it was compared with champion 1, but Ada made version 9 the champion since"
        )
        assert champions(held)[-1] == (9, after(3).start)
        assert state(held, 2) is State.DECLINED, "it would be the shadow for ever"


def test_a_worse_shadow_is_not_promoted(held: Settings) -> None:
    end(held, 2, day=after(4).start, passed=False)
    move(held, 2, State.DECLINED, by=BY_PRODUCT)
    assert promote(TRIAL, after(5), held, version=2).held_back == "it is declined, by nightly-ml: of a test"
    assert champions(held) == [(1, after(1).start)]
    with pytest.raises(ActionRequiredError, match="only a person can force it"):
        promote(TRIAL, after(5), held, version=2, by="Ada", why="because")


def test_new_rules_of_the_gate_do_not_count_for_a_version_that_waits_already(held: Settings) -> None:
    end(held, 2, day=after(4).start, passed=True)
    checks = tuple(c for c in TRIAL.gate.checks if c.kind != "size")
    stricter = TRIAL.model_copy(
        update={
            "gate": Gate.model_validate({"checks": [*(c.model_dump() for c in checks), {"kind": "size", "at_most": 9}]})
        }
    )
    assert promote(stricter, after(5), held, version=2).rows == 1


def verdict(passed: bool) -> Callable[..., Check]:
    figures = {"measured": -0.05 if passed else 0.001, "threshold": -0.02, "passed": passed}
    return lambda *_: Check(name="shadow", subject="log_loss", sentence="as measured", **figures)


@pytest.mark.parametrize("better", [False, True])
def test_a_newer_version_resets_the_shadow_only_if_it_is_clearly_better(
    held: Settings, monkeypatch: pytest.MonkeyPatch, better: bool
) -> None:
    if better:
        monkeypatch.setattr(hold_as_shadow, "compare_with_shadow", verdict(passed=True))
    assert train_and_gate(held, TRIAL, after(2)).passed
    found = promote(TRIAL, after(3), held, version=3)
    leaving, staying = (2, 3) if better else (3, 2)
    assert (state(held, leaving), state(held, staying)) == (State.SUPERSEDED, State.PENDING)
    [left] = [m for m in postgres.version_moves.read_moves(held, MODEL.name, leaving) if m.state is State.SUPERSEDED]
    assert left.by == BY_PRODUCT
    words = "is clearly better" if better else "is not clearly better"
    assert left.why.startswith(f"version 3 {words} than the running shadow, version 2: ")
    assert champions(held) == [(1, after(1).start)]
    # the days of the old shadow end with the training of the new one, and the one that never began has none
    of_days = read_shadow_versions(TRIAL, Interval(start=after(2).start, end=after(4).start), held)
    assert of_days == (
        {after(2).start: 2, after(3).start: 3, after(4).start: 3}
        if better
        else dict.fromkeys([after(n).start for n in (2, 3, 4)], 2)
    )
    rows = rows_of(held, "version_moves", "shadow_ends")
    again = promote(TRIAL, after(3), held, version=3)
    assert again.held_back == (found.held_back if better else f"it is superseded, by nightly-ml: {left.why}")
    assert rows_of(held, "version_moves", "shadow_ends") == rows
    if not better:
        assert "of version 2, the running shadow, on the same 600 rows" in left.why
