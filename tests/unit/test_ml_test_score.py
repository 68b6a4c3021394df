"""The ML Test Score: each piece of evidence counts, and nothing counts without evidence."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tools.ml_test_score.__main__ import counter, printed
from tools.ml_test_score.evidence import (
    DatabaseRows,
    Declared,
    Documented,
    Drilled,
    EndedTest,
    Piece,
    Ran,
    Sources,
    read_results,
)
from tools.ml_test_score.rubric import RUBRIC, MlTest, evaluate, section_scores

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
REPOSITORY = Path(__file__).parents[2]
PIECES = [
    pytest.param(test, piece, id=f"{test.name}: {piece.name}")
    for test in RUBRIC
    for piece in (*test.by_hand, *test.automatic)
]


def results_of(test: MlTest) -> list[EndedTest]:
    """Return a result for each test that the rubric names."""
    made = []
    for piece in (*test.by_hand, *test.automatic):
        if isinstance(piece, Ran):
            made += [EndedTest(file, name, passed=True, at=NOW - timedelta(hours=1)) for file, name in named(piece)]
    return made


def named(piece: Ran) -> list[tuple[str, str]]:
    """Return the files that a piece names, and the test."""
    pattern, _, name = piece.test.partition("::")
    return [(path.relative_to(REPOSITORY).as_posix(), name or "test_any") for path in REPOSITORY.glob(pattern)]


def whole(test: MlTest) -> Sources:
    """Return a world in which each piece of evidence of a test counts."""
    found = Sources(
        root=REPOSITORY,
        now=NOW,
        count=lambda query: 1,
        changed_at=lambda path: NOW - timedelta(days=30),
        models=[SimpleNamespace(name="m")],  # type: ignore[list-item]
    )
    found.__dict__["results"] = results_of(test)
    return found


def falsified(found: Sources, piece: Piece, tmp_path: Path) -> list[Sources]:
    """Return worlds in each of which the piece is missing or no longer says what it said."""

    def world(**changed: Any) -> Sources:
        results = changed.pop("results", found.results)
        made = Sources(
            **{name: getattr(found, name) for name in ("root", "now", "count", "changed_at", "models")} | changed
        )
        made.__dict__["results"] = results
        return made

    if isinstance(piece, Ran):
        file, name = named(piece)[-1]
        others = [each for each in found.results if (each.file, each.name) != (file, name)]
        return [
            world(results=others),
            world(results=[*others, EndedTest(file, name, passed=False, at=NOW)]),
            world(results=[*others, EndedTest(file, name, passed=True, at=NOW - piece.max_age - timedelta(hours=1))]),
            world(changed_at=lambda path: NOW if path == REPOSITORY / file else None),
        ]
    if isinstance(piece, DatabaseRows):
        return [world(count=None), world(count=lambda query: 0 if query == piece.query else 1)]
    if isinstance(piece, Declared):
        return [world(models=[])]
    assert isinstance(piece, Documented)
    for path in {each.page for each in _pages(found)}:
        copy = tmp_path / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        text = (REPOSITORY / path).read_text(encoding="utf-8")
        copy.write_text("" if path == piece.page else text, encoding="utf-8")
    for each in found.results:
        (tmp_path / each.file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / each.file).touch()
    return [world(root=tmp_path)]


def _pages(found: Sources) -> list[Documented]:
    return [each for test in RUBRIC for each in (*test.by_hand, *test.automatic) if isinstance(each, Documented)]


@pytest.fixture(autouse=True)
def _declared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the one model of these tests declare everything; what each piece asks of a model is another test."""
    monkeypatch.setattr(
        Declared, "why_not", lambda self, found: None if found.models else f"there is no model with {self.what}"
    )


@pytest.mark.parametrize(("test", "piece"), PIECES)
def test_without_a_piece_of_evidence_the_score_is_lower(test: MlTest, piece: Piece, tmp_path: Path) -> None:
    found = whole(test)
    before = evaluate(test, found)
    assert before.points == (1.0 if test.automatic else 0.5), before.why_not
    for world in falsified(found, piece, tmp_path):
        after = evaluate(test, world)
        assert after.points < before.points and after.why_not


def test_the_rubric_has_the_28_tests_of_the_paper_and_none_is_given_points_without_evidence() -> None:
    counted = {
        section: sum(test.section == section for test in RUBRIC) for section in dict.fromkeys(t.section for t in RUBRIC)
    }
    assert counted == {"data": 7, "model": 7, "infrastructure": 7, "monitoring": 7}
    assert len({test.name for test in RUBRIC}) == 28
    for test in RUBRIC:
        assert test.automatic or test.needs, f"{test.name}: say what the missing half needs"
        assert not test.automatic or test.by_hand, f"{test.name}: the first half point is for what is written down"


def test_each_test_and_page_that_is_named_exists() -> None:
    for test in RUBRIC:
        for piece in (*test.by_hand, *test.automatic):
            if isinstance(piece, Ran):
                for file, name in named(piece):
                    text = (REPOSITORY / file).read_text(encoding="utf-8")
                    assert f"def {name.removesuffix('any')}" in text, piece.test
                    assert isinstance(piece, Drilled) == file.startswith(("tests/drills/", "tests/faults/")), piece.test
            elif isinstance(piece, Documented):
                assert piece.why_not(whole(test)) is None


def test_the_score_is_that_of_the_weakest_section() -> None:
    evaluated = [evaluate(test, whole(test)) for test in RUBRIC]
    scores = section_scores(evaluated)
    said = printed(evaluated, 80)
    assert f"ML Test Score: {min(scores.values()):g} (the weakest section" in " ".join(said.split())
    assert all(len(line) <= 80 for line in said.splitlines()[1:])


def test_results_are_read_as_pytest_writes_them(tmp_path: Path) -> None:
    (tmp_path / "unit.xml").write_text(
        '<?xml version="1.0"?><testsuites><testsuite name="pytest" timestamp="2026-11-29T11:00:00+00:00">'
        '<testcase classname="tests.unit.test_a" name="test_one[x-1]" time="0.1"/>'
        '<testcase classname="tests.unit.test_a.TestB" name="test_two" time="0.1"><failure message="no"/></testcase>'
        '<testcase classname="tests.unit.test_a" name="test_three" time="0.1"><skipped/></testcase>'
        "</testsuite></testsuites>"
    )
    found = [(each.file, each.name, each.passed) for each in read_results(tmp_path / "unit.xml")]
    assert found == [
        ("tests/unit/test_a.py", "test_one", True),
        ("tests/unit/test_a.py", "test_two", False),
        ("tests/unit/test_a.py", "test_three", False),
    ]


def test_without_a_database_nothing_is_counted() -> None:
    assert counter(None) is None
    assert counter("postgresql://nobody@127.0.0.1:1/none?connect_timeout=2") is None
