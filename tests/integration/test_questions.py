"""docs/questions.md: each SQL block gives the expected answer on a small database, as the role that the page names.

Also the views `<model>_predictions`, which the page is about.
"""

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa

from bench.questions import TimedQuestion, read_questions
from include.config.loading import load_model, load_project
from include.core.settings import Settings
from include.io import postgres
from include.io.postgres.migrations import model_views
from tests.conftest import Install

D6, D7, D9, D10 = (date(2026, 3, day) for day in (6, 7, 9, 10))
FERRIES = {1: ("UA", "BAT", "HOB"), 2: ("UA", "HOB", "BAT"), 3: ("B6", "BAT", "STA"), 4: ("B6", "HOB", "STA")}
FERRIES[5] = ("UA", "BAT", "HOB")  # runs from the tenth on, in place of the fourth

LATE = {  # day, version: score of each ferry
    (D6, 1): {1: 0.1, 2: 0.6, 3: 0.2, 4: 0.8},
    (D7, 1): {1: 0.2, 2: 0.5, 3: 0.3, 4: 0.9},
    (D9, 1): {1: 0.1, 2: 0.4, 3: 0.3, 4: 0.75},
    (D9, 2): {1: 0.2, 2: 0.7, 3: 0.3, 4: 0.6},
    (D10, 2): {1: 0.4, 2: 0.5, 3: 0.05, 5: 0.9},
}
DELAY = {(D9, 1): {1: 10.0, 2: 40.0, 3: 20.0, 4: 5.0}, (D10, 1): {1: 15.0, 2: 25.0, 3: 5.0, 5: 50.0}}
WAS_LATE = {D6: {1: 0, 2: 1, 3: 0, 4: 1}, D7: {1: 0, 2: 0, 3: 1, 4: 1}, D9: {1: 1, 2: 1, 3: 0}}
MINUTES = {D9: {1: 12, 2: 10, 3: None, 4: 25}}
LATE_TITLE, DELAY_TITLE = load_model("late_ferry").title, load_model("ferry_delay").title


def key(day: date, ferry: int) -> str:
    company, origin, _ = FERRIES[ferry]
    return f"{company}-{ferry}-{origin}-{day:%Y%m%d}"


def at(day: int, hour: int, minute: int = 0) -> datetime:
    """Return a moment in March 2026. New York is five hours behind, from the eighth on four."""
    return datetime(2026, 3, day, hour, minute, tzinfo=UTC)


PUBLISHED = {  # day, version: moment. The seventh comes at 07:00 in New York, the ninth is published again
    (D6, 1): at(6, 10, 30),
    (D7, 1): at(7, 12),
    (D9, 1): at(9, 9, 30),
    (D9, 2): at(9, 20),
    (D10, 2): at(10, 9, 30),
}


@pytest.fixture(scope="module")
def asked(install: Install, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Return an installation with four published days of two models."""
    with install(tmp_path_factory.mktemp("questions")) as settings:
        with postgres.connection.engine(settings).begin() as connection:
            fill(connection)
        yield settings


def fill(connection: sa.Connection) -> None:
    def add(table: str, *rows: dict[str, Any]) -> None:
        names = list(rows[0])
        values = ", ".join(f":{name}" for name in names)
        quoted = ", ".join(f'"{name}"' for name in names)
        connection.execute(sa.text(f"INSERT INTO {table} ({quoted}) VALUES ({values})"), list(rows))

    for table in ("predictions", "entities_ferries"):
        for day in (D6, D7, D9, D10):
            connection.execute(sa.select(sa.func.make_month(table, day)))
    about: dict[str, Any]
    for model, outcome, kind in (
        ("late_ferry", "late_ferry", "binary"),
        ("ferry_delay", "ferry_delay", "regression"),
    ):
        about = {"model": model, "project": "ferries", "outcome": outcome, "problem_type": kind}
        add("models", {**about, "title": load_model(model).title, "owner": "data-team"})
    number = 0
    for model, scores in (("late_ferry", LATE), ("ferry_delay", DELAY)):
        before: dict[date, str] = {}
        for (day, version), of_day in scores.items():
            number += 1
            batch = f"00000000-0000-0000-0000-{number:012}"
            moment = PUBLISHED.get((day, version), at(day.day, 9, 30))
            about = {"batch_id": batch, "model": model, "day": day, "run_id": "test"}
            more: dict[str, Any] = {
                "rows": len(of_day),
                "digest": "0" * 64,
                "as_of": at(day.day, 8),
                "model_version": version,
            }
            add("batches", {**about, **more})
            decided = {
                ferry: score if model == "ferry_delay" else float(score >= 0.3) for ferry, score in of_day.items()
            }
            add(
                "predictions",
                *(
                    {"batch_id": batch, "model": model, "day": day, "entity_id": key(day, ferry), "score": score,
                     "prediction": decided[ferry]}
                    for ferry, score in of_day.items()
                ),
            )  # fmt: skip
            moved: dict[str, Any] = {"replaced": before.get(day), "mode": "replace", "published_at": moment}
            add("publications", {**about, **moved})
            if day in before:
                connection.execute(
                    sa.text("UPDATE published SET batch_id = :b, published_at = :at WHERE model = :m AND day = :d"),
                    {"b": batch, "at": moment, "m": model, "d": day},
                )
            else:
                add("published", {**about, "published_at": moment})
            before[day] = batch
    for day in (D6, D7, D9, D10):
        for ferry in LATE[day, 2 if day >= D9 else 1]:
            company, origin, dest = FERRIES[ferry]
            about = {"day": day, "entity_id": key(day, ferry), "company": company, "ferry": ferry, "origin": origin}
            add("entities_ferries", {**about, "dest": dest, "departs_at": at(day.day, 15), "distance_miles": 2.5})
    for outcome, days in (("late_ferry", WAS_LATE), ("ferry_delay", MINUTES)):
        for day, values in days.items():
            about = {"project": "ferries", "outcome": outcome, "day": day, "delivery_id": "logbook"}
            known = [
                {**about, "entity_id": key(day, ferry), "value": value, "available_from": at(day.day + 1, 5)}
                for ferry, value in values.items()
            ]
            add("outcomes", *known)
    for version, from_day, by, why in ((1, date(2026, 3, 1), "gate", "the first"), (2, D9, "ana", "better in fog")):
        about = {"model": "late_ferry", "model_version": version, "from_day": from_day, "by": by, "why": why}
        add("promotions", {**about, "run_id": "test"})
        fit: dict[str, Any] = {
            "mlflow_run": f"run{version}",
            "model": "late_ferry",
            "candidate": "linear",
            "fit_end": from_day,
        }
        add("fits", {**fit, "fit_digest": "0" * 64, "model_digest": "0" * 64, "run_id": "test"})
        named: dict[str, Any] = {
            "model": "late_ferry",
            "model_version": version,
            "mlflow_run": f"run{version}",
            "run_id": "test",
        }
        add("model_versions", {**named, "semantic_version": f"1.{version}.0"})
    for day, version, metric, value in (
        (D6, 1, "log_loss", 0.2), (D6, 1, "roc_auc", 1.0), (D7, 1, "log_loss", 0.6), (D9, 2, "log_loss", 0.5),
    ):  # fmt: skip
        about = {"model": "late_ferry", "day": day, "model_version": version, "slice": "all", "slice_value": "all"}
        of_origin = {**about, "slice": "origin", "slice_value": "BAT"}
        measured: dict[str, Any] = {"metric": metric, "value": value, "rows": 4, "digest": "0", "run_id": "test"}
        add("performance_daily", {**about, **measured}, {**of_origin, **measured, "value": 9.0})
    for day, loss, its, rows in ((D7, 0.3, 0.5, 1), (D9, 0.6, 0.4, 3)):
        about = {"model": "late_ferry", "model_version": 3, "champion_version": 2, "day": day, "metric": "log_loss"}
        add(
            "shadow_days",
            {**about, "loss": loss, "champion_loss": its, "rows": rows, "digest": "0" * 64, "run_id": "t"},
        )
    late: dict[str, Any] = {
        "project": "ferries",
        "subject": "late_ferry",
        "day": D10,
        "late": False,
        "sentence": "on time",
    }
    add("freshness", {**late, "run_id": "test"})


E1, E2, E3, E5 = (key(D10, ferry) for ferry in (1, 2, 3, 5))
ANSWERS: dict[str, list[tuple[Any, ...]]] = {
    "How are all models this morning?": [
        ("ferry_delay", DELAY_TITLE, None, None, D10, at(10, 9, 30), None, None),
        ("late_ferry", LATE_TITLE, 2, D9, D10, at(10, 9, 30), False, None),
    ],
    "What are today's predictions?": [
        (E3, "B6", 3, "BAT", "STA", at(10, 15), 0.05, 0.0, 2),
        (E1, "UA", 1, "BAT", "HOB", at(10, 15), 0.4, 1.0, 2),
        (E2, "UA", 2, "HOB", "BAT", at(10, 15), 0.5, 1.0, 2),
        (E5, "UA", 5, "BAT", "HOB", at(10, 15), 0.9, 1.0, 2),
    ],
    "Which ones are the highest today?": [
        (E5, "UA", 5, "BAT", "HOB", 0.9),
        (E2, "UA", 2, "HOB", "BAT", 0.5),
        (E1, "UA", 1, "BAT", "HOB", 0.4),
        (E3, "B6", 3, "BAT", "STA", 0.05),
    ],
    "What was predicted for one entity over time?": [
        (D6, 0.6, 1.0, 1.0, True, 1),
        (D7, 0.5, 1.0, 0.0, False, 1),
        (D9, 0.7, 1.0, 1.0, True, 2),  # not 0.4, which was replaced
        (D10, 0.5, 1.0, None, None, 2),
    ],
    "What changed since yesterday?": [
        ("B6", 4, "HOB", 0.6, None, None),
        ("UA", 5, "BAT", None, 0.9, None),
        ("B6", 3, "BAT", 0.3, 0.05, -0.25),
        ("UA", 1, "BAT", 0.2, 0.4, 0.2),
        ("UA", 2, "HOB", 0.7, 0.5, -0.2),
    ],
    "How good was each day of last week?": [(D6, 0.2, 1.0, 4), (D7, 0.6, None, 4), (D9, 0.5, None, 4)],
    "How good was last week by slice?": [
        ("BAT", 6, 4 / 6, 1.3 / 6, 2 / 6),
        ("HOB", 5, 4 / 5, 3.5 / 5, 4 / 5),  # the fourth ferry of the ninth has no outcome
    ],
    "Where was the model most wrong last week?": [
        (D9, key(D9, 2), "UA", "HOB", "BAT", 40.0, 10.0, 30.0),
        (D9, key(D9, 4), "B6", "HOB", "STA", 5.0, 25.0, -20.0),
        (D9, key(D9, 1), "UA", "BAT", "HOB", 10.0, 12.0, -2.0),
    ],
    "How often do the top three hit?": [(D6, 2 / 3, 2 / 4, 4), (D7, 2 / 3, 2 / 4, 4), (D9, 2 / 3, 2 / 3, 3)],
    "Are the probabilities right?": [
        (1, 2, 0.1, 0.2, 0.15, 0.0),
        *((n, 1, score, score, score, observed)
          for n, score, observed in ((2, 0.2, 0.0), (3, 0.2, 1.0), (4, 0.3, 1.0), (5, 0.3, 0.0), (6, 0.5, 0.0),
                                     (7, 0.6, 1.0), (8, 0.7, 1.0), (9, 0.8, 1.0), (10, 0.9, 1.0))),
    ],
    "Which mistakes does it make?": [(0.0, 0.0, 3), (0.0, 1.0, 1), (1.0, 0.0, 2), (1.0, 1.0, 5)],
    "Is there a trend?": [
        (D6, 4, 1.7 / 4, 2 / 4, 2 / 4),
        (D7, 4, 1.9 / 4, 3 / 4, 2 / 4),
        (D9, 4, 1.8 / 4, 3 / 4, 2 / 3),
        (D10, 4, 1.85 / 4, 3 / 4, None),
    ],
    "Which outcomes are still missing?": [(D9, 4, 1), (D10, 4, 4)],
    "What do two models say about the same entity?": [
        (E5, "UA", 5, 0.9, 50.0),
        (E2, "UA", 2, 0.5, 25.0),
        (E1, "UA", 1, 0.4, 15.0),
        (E3, "B6", 3, 0.05, 5.0),
    ],
    "What was corrected later?": [
        (D9, key(D9, 2), 0.4, 0.7, 1, 2, at(9, 20)),
        (D9, key(D9, 4), 0.75, 0.6, 1, 2, at(9, 20)),
        (D9, key(D9, 1), 0.1, 0.2, 1, 2, at(9, 20)),
    ],
    "Where do two versions differ?": [(1, 2, "HOB", 2, 0.225, 0), (1, 2, "BAT", 2, 0.05, 0)],
    "How good was each version?": [(1, D6, D7, 8, 0.4), (2, D9, D9, 4, 0.5)],
    "Which version made a number, and why is it champion?": [
        (D10, E2, 0.5, 2, "1.2.0", at(10, 9, 30), D9, "ana", "better in fog"),
    ],
    "Is the version in shadow better?": [(3, 2, D7, D9, 4, (0.3 + 3 * 0.6) / 4, (0.5 + 3 * 0.4) / 4)],
    "Which days were late, and which are missing?": [
        *((date(2026, 2, day), None, "missing") for day in range(11, 29)),
        *((date(2026, 3, day), None, "missing") for day in range(1, 6)),
        (D7, at(7, 12), "late"),
        (date(2026, 3, 8), None, "missing"),
    ],
}  # fmt: skip


def rounded(rows: Any) -> list[tuple[Any, ...]]:
    return [tuple(round(float(v), 9) if isinstance(v, float | Decimal) else v for v in row) for row in rows]


def name_of(question: TimedQuestion) -> str:
    return question.title.partition(". ")[2]


def test_the_page_has_twenty_questions_with_an_answer_each() -> None:
    assert [question.title.partition(".")[0] for question in read_questions()] == [str(n) for n in range(1, 21)]
    assert {name_of(question) for question in read_questions()} == ANSWERS.keys()


@pytest.mark.parametrize("question", read_questions(), ids=name_of)
def test_a_question_of_the_page_has_the_expected_answer(asked: Settings, question: TimedQuestion) -> None:
    with postgres.connection.engine(asked).connect() as connection:
        connection.execute(sa.text(f"SET ROLE {question.role}"))
        found = connection.exec_driver_sql(question.statement.replace("%", "%%")).all()
    assert rounded(found) == rounded(ANSWERS[name_of(question)])


@pytest.mark.parametrize("problem_type", ["binary", "multiclass", "regression", "count", "quantile"])
def test_the_view_of_a_model_has_the_columns_of_its_problem_type(asked: Settings, problem_type: str) -> None:
    project, model = load_project("ferries"), load_model("late_ferry")
    changed = model.model_copy(update={"problem_type": problem_type})
    with (
        postgres.connection.engine(asked).connect() as connection,
        closing(connection.connection.cursor()) as cursor,
    ):
        model_views._extend_view(cursor, project, changed)
        result = connection.execute(sa.text("SELECT * FROM late_ferry_predictions"))
        names, rows = [*result.keys()], result.all()
        connection.rollback()
    own = {
        "binary": {"correct"},
        "multiclass": {"correct", "label", "probabilities", "outcome_label"},
        "quantile": {"error", "absolute_error", "lower", "upper", "within_limits"},
    }.get(problem_type, {"error", "absolute_error"})
    some = {"correct", "label", "probabilities", "outcome_label", "error", "absolute_error", "lower", "upper"}
    assert set(names) & (some | {"within_limits"}) == own
    assert names[:4] == ["day", "target_day", "horizon", "entity_id"]
    assert names[4:10] == [*project.entity.public]  # and no column that is not public
    assert len(rows) == 16


def test_the_view_of_a_model_that_is_gone_is_dropped_and_that_of_another_project_stays(
    asked: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_views, "model_names", lambda _: ["ferry_delay"])
    with postgres.connection.engine(asked).connect() as connection:
        connection.execute(sa.text("CREATE VIEW x_predictions AS SELECT 1 AS one"))
        connection.execute(
            sa.text(f"COMMENT ON VIEW x_predictions IS '{model_views.ABOUT}ferries_two. A model of another project.'")
        )
        model_views.extend(connection, load_project("ferries"))
        there = connection.scalars(sa.text("SELECT relname FROM pg_class WHERE relname LIKE '%\\_predictions'")).all()
        connection.rollback()
    assert {"ferry_delay_predictions", "x_predictions", "current_predictions"} <= {*there}
    assert "late_ferry_predictions" not in there


def test_a_team_s_own_view_stays_when_an_upgrade_changes_how_the_view_below_it_reads(
    asked: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, model = load_project("ferries"), load_model("late_ferry")
    ours = sa.text("SELECT * FROM ours ORDER BY day")
    definition = sa.text("SELECT pg_get_viewdef('late_ferry_predictions'::regclass)")
    with (
        postgres.connection.engine(asked).connect() as connection,
        closing(connection.connection.cursor()) as cursor,
    ):
        newest = connection.scalar(definition)
        with monkeypatch.context() as older:  # as before predictions had months
            older.setattr(model_views, "SELECT", model_views.SELECT.replace(" AND p.day = s.day", ""))
            model_views._extend_view(cursor, project, model)
        assert connection.scalar(definition) != newest
        connection.execute(
            sa.text(
                "CREATE VIEW ours AS SELECT day, count(*) AS rows, max(score) AS highest "
                "FROM late_ferry_predictions GROUP BY day"
            )
        )
        before = connection.execute(ours).all()
        model_views._extend_view(cursor, project, model)
        assert connection.scalar(definition) == newest
        assert before and connection.execute(ours).all() == before
        connection.rollback()
