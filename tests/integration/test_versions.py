"""Semantic versions of real fits, in the registry and in the shared database."""

import threading
from concurrent.futures import ThreadPoolExecutor

from include.core.settings import Settings
from include.io import postgres
from include.steps.evaluate import evaluate
from include.steps.promote import promote
from tests.integration import small
from tests.integration.training import MODEL, after, client, fit_all, train_and_gate

NAME = MODEL.name
HISTORY = "SELECT model_version, semantic_version, changed FROM version_history ORDER BY model_version"


def test_a_version_is_named_by_what_changed_and_by_its_state(prepared: Settings) -> None:
    settings = prepared.model_copy(update={"git_commit": "2e5fd9ec49a1beef"})
    first = train_and_gate(settings)
    assert first.passed, first.why_not
    assert small.select(settings, HISTORY) == [
        {"model_version": 1, "semantic_version": "1.0.0-pending+2e5fd9ec49a1", "changed": "the first version"}
    ]
    promote(MODEL, after(1), settings, version=1)
    other = MODEL.model_copy(update={"decision_threshold": 0.4})
    evaluate(MODEL, after(1), settings, fitted=fit_all(settings, run_date=after(1)))
    evaluate(other, after(1), settings, fitted=fit_all(settings, other, after(1)))
    for _ in range(2):  # a repeat finds the same version, and names none again
        evaluate(MODEL, after(1), settings, fitted=fit_all(settings, run_date=after(1)))
    assert [tuple(row.values()) for row in small.select(settings, HISTORY)] == [
        (1, "1.0.0+2e5fd9ec49a1", "the first version"),
        (2, "1.0.1-registered+2e5fd9ec49a1", "trained again"),
        (3, "1.1.0-registered+2e5fd9ec49a1", "changed: decision_threshold"),
    ]
    assert client(settings).get_model_version(NAME, "3").tags["semantic_version"] == "1.1.0"
    assert postgres.model_files.read_names(settings, NAME, [2]) == {2: "1.0.1-registered+2e5fd9ec49a1"}
    for view in ("promotion_history", "gate_decisions"):
        [row] = small.select(settings, f"SELECT model_version, semantic_version FROM {view}")
        assert row == {"model_version": 1, "semantic_version": "1.0.0+2e5fd9ec49a1"}


def test_two_registrations_at_once_get_two_names(prepared: Settings) -> None:
    fitted, start = fit_all(prepared), threading.Barrier(2)

    def register(number: int, run_id: str) -> str | None:
        start.wait()
        return postgres.model_files.record_version(prepared, NAME, number, run_id)

    with ThreadPoolExecutor() as pool:
        named = list(pool.map(register, (8, 7), [each.run_id for each in fitted]))
    assert sorted(map(str, named)) == ["1.0.0", "1.1.0"]
    assert postgres.model_files.record_version(prepared, NAME, 7, fitted[0].run_id) == named[1]
