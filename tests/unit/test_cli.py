"""`include.cli`: each command that documents, DAG texts and messages name exists; what `journal show` prints."""

import functools
import json
import os
import pty
import re
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Any

import pytest
import typer
from typer.core import TyperGroup
from typer.testing import CliRunner

from include.cli import _in_words, _print, _show, app
from include.cli_say import say
from include.cli_words import MOST, entry_words, message_words, words
from include.core.errors import ActionRequiredError, ConfigError
from include.core.interval import Interval
from include.core.printable import is_printable, printable
from include.core.records import (
    Check,
    Featured,
    GateDecision,
    Landed,
    PreparedDay,
    Refusal,
    Scored,
    ScoredDay,
    TableRef,
    Validated,
)
from include.io import postgres
from tests.pages import HOSTILE
from tools.stack import ROOT

COMMAND = re.compile(r"-m include\.cli (?P<command>[a-z_][a-z_-]*(?: [a-z_-]+\b)?)(?P<rest>[^`\n]*)")


def named_commands() -> Iterator[tuple[str, str, str]]:
    """Yield file, command and the rest of the line. In code, the command may continue in the next line's string."""
    folders = ("dags", "include", "plugins", "tools", "docs")
    files = [p for folder in folders for p in (ROOT / folder).rglob("*") if p.is_file()]
    for path in (ROOT / "README.md", *files):
        if path.suffix in (".py", ".md", ".yaml", ".j2"):
            for found in COMMAND.finditer(path.read_text(encoding="utf-8")):
                yield str(path.relative_to(ROOT)), found["command"], found["rest"]


def test_every_command_in_documents_and_messages_exists() -> None:
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    wrong, count = [], 0
    for file, named, rest in named_commands():
        count += 1
        name, *of_group = named.split()
        command = group.commands.get(name)
        if isinstance(command, TyperGroup):
            command = command.commands.get(*of_group)
        options = {option for p in command.params for option in p.opts} if command else set()
        unknown = [option for option in re.findall(r"(?<![\w-])--[a-z-]+", rest) if option not in options]
        if command is None or unknown:
            wrong.append(f"{file}: include.cli {named} {' '.join(unknown)}")
    assert count > 10
    assert not wrong, "no such command or option:\n" + "\n".join(wrong)


def commands_of(command: object, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the words of each command and group, from the top."""
    yield path
    if isinstance(command, TyperGroup):
        for name, below in command.commands.items():
            yield from commands_of(below, (*path, name))


def test_the_help_of_each_command_fits_80_columns_and_cuts_no_word() -> None:
    """A name that has no room would end in …; a paragraph of a docstring in two lines is printed as two."""
    group = typer.main.get_command(app)
    paths, wrong = [*commands_of(group)], []
    for path in paths:
        shown = CliRunner().invoke(app, [*path, "--help"], env={"COLUMNS": "80", "TERMINAL_WIDTH": "80"})
        assert shown.exit_code == 0, path
        wrong += [f"{' '.join(path)}: {line}" for line in shown.output.splitlines() if len(line) > 80 or "…" in line]
        command = functools.reduce(lambda found, name: found.commands[name], path, group)  # type: ignore[attr-defined]
        paragraphs = (command.help or "").split("\n\n")[1:]
        wrong += [f"{' '.join(path)}: {each}" for each in paragraphs if "\n" in each.strip()]
    assert len(paths) > 40
    assert not wrong, "too wide, cut, or broken in the middle of a sentence:\n" + "\n".join(wrong)


@pytest.mark.parametrize("text", HOSTILE)
def test_the_terminal_obeys_nothing_of_what_is_printed(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A finding is one line as it is, also with markup of rich; a record is JSON with the same meaning."""
    say(f"✗ {text}")
    assert capsys.readouterr().out == f"✗ {printable(text)}\n"
    refusal = Refusal(feed=text, day=date(2026, 3, 1), uri=f"{text}\x85\U000e0041", why=text)
    _print(refusal)
    written = capsys.readouterr().out
    assert all(map(is_printable, written.split("\n")))
    assert json.loads(written) == refusal.model_dump(mode="json")


@pytest.mark.parametrize("text", HOSTILE)
def test_an_error_is_printed_in_the_lines_that_it_has(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit), _in_words():
        raise ConfigError([f"{text}: no such column", "Run: make check"])
    assert capsys.readouterr().err == f"{printable(text)}: no such column\nRun: make check\n"


@pytest.mark.parametrize("columns", [80, 200])
def test_an_error_on_a_terminal_has_a_mark_beside_its_colour_and_other_lines_have_no_code(
    monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    shown, end = pty.openpty()
    with os.fdopen(end, "w", encoding="utf-8") as terminal, os.fdopen(shown, "rb", buffering=0) as read:
        monkeypatch.setattr(sys, "stdout", terminal)
        monkeypatch.setattr(sys, "stderr", terminal)
        say("two messages sent", "none waits")
        say("problem " * 30, "Run: make check", error=True)
        say("the end")
        terminal.flush()
        written = b""
        while b"the end" not in written:  # a terminal gives what it has by now
            written += read.read(4000)
    plain, none, first, *others, last, _ = written.decode().splitlines()
    assert (plain, none) == ("two messages sent", "none waits")
    assert first.startswith("\x1b[31m✗ problem") and last == "\x1b[31mRun: make check\x1b[0m"
    assert others and all(line.startswith("\x1b[31m  problem") for line in others)
    assert max(map(len, (first, *others))) <= columns + len("\x1b[31m\x1b[0m")


RUN = Interval.of(date(2026, 3, 1))


def refusal(name: str) -> Refusal:
    return Refusal(feed="sales", day=RUN.start, uri=name, why="wrong")


def test_what_was_done_is_a_line_and_what_a_person_must_look_at_another() -> None:
    landed = Landed(interval=RUN, rows=9, new=3, known=1200, refused=(refusal("a.csv"),), held=("b.csv: late",))
    assert [*words(landed)] == [
        "✓ land 2026-03-01: 3 new deliveries, 1,200 known before",
        "  ✗ refused: a.csv: wrong",
        "  ✗ waits for a decision: b.csv: late",
    ]
    validated = Validated(interval=RUN, rows=9, accepted=3, quarantined=2, warnings=1)
    said = "3 deliveries accepted, 9 rows clean, 2 in quarantine, 1 warnings (view data_quality)"
    assert [*words(validated)] == [f"✓ validate 2026-03-01: {said}"]


def test_few_of_many_lines_are_printed_and_all_are_counted() -> None:
    many = tuple(refusal(f"{n}.csv") for n in range(5000))
    found = [*words(Landed(interval=RUN, rows=0, new=0, known=0, refused=many, unnamed=7))]
    assert len(found) == 1 + MOST + 2
    assert found[-2:] == [f"  … and {5000 - MOST:,} more", "  … and 7 more, which the log names"]


def test_a_prepared_day_says_what_it_lacks() -> None:
    day = PreparedDay(
        project="shop",
        day=RUN.start,
        data_view="point_in_time",
        as_of=datetime(2026, 3, 1, 3, tzinfo=UTC),
        watermark=7,
        deliveries=(),
        table_versions={},
        rows=4,
        left_out=2,
        lacks={"weather": "weather has nothing of 2026-03-01"},
    )
    table = TableRef(table="features_shop", version=1, interval=RUN, rows=4)
    assert [*words(Featured(interval=RUN, rows=4, table=table, prepared_days=(day,)))] == [
        "✓ build_features 2026-03-01: 4 rows of 1 day, 2 entities left out by entity.where",
        "  ✗ went on without: 2026-03-01 weather has nothing of 2026-03-01",
    ]


def test_the_gate_says_each_check_and_the_decision(capsys: pytest.CaptureFixture[str]) -> None:
    good = Check(name="rows", subject="", measured=9, threshold=5, passed=True, sentence="9 rows; at least 5")
    bad = Check(name="quality", subject="", measured=0, threshold=1, passed=False, sentence="r2 is 0; at least 1")
    decision = GateDecision(
        interval=RUN, rows=9, model="m", candidate="linear", gate_id="g", champion=2, passed=False, checks=(good, bad)
    )
    _show(decision, as_json=False)
    assert capsys.readouterr().out.splitlines() == [
        "gate of m, candidate linear, 2026-03-01: 9 rows, champion 2",
        "  ✗ r2 is 0; at least 1",
        "  ✓ 9 rows; at least 5",
        "✗ candidate linear is rejected",
    ]
    _show(decision, as_json=True)
    assert json.loads(capsys.readouterr().out) == decision.model_dump(mode="json")


LINES: list[dict[str, Any]] = [
    {"sequence": 1, "kind": "delivery", "entry": {"feed": "sales", "day": "2026-03-01"}},
    {"sequence": 2, "kind": "verdict", "entry": {"feed": "sales", "day": "2026-03-01"}},
    {"sequence": 3, "kind": "prepared_day", "entry": {"day": "2026-03-01"}},
    {"sequence": 4, "kind": "training", "entry": {"day": "2026-03-01"}},
    {"sequence": 5, "kind": "delivery", "entry": {"feed": "sales", "day": "2026-03-02"}},
    {"sequence": 6, "kind": "decision", "entry": {"feed": "prices", "day": "2026-03-01"}},
]


def shown(monkeypatch: pytest.MonkeyPatch, *options: str) -> list[int]:
    """Return the sequence numbers that `journal show` prints of `LINES`."""
    monkeypatch.setattr("include.cli._settings", lambda: None)
    monkeypatch.setattr(postgres.journal, "read_lines", lambda *_: LINES)
    result = CliRunner().invoke(app, ["journal", "show", "--project", "ferries", *options], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return [json.loads(line)["sequence"] for line in result.output.splitlines()]


def test_without_days_the_whole_journal_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch) == [1, 2, 3, 4, 5, 6]


def test_with_days_only_entries_about_files_of_these_days_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, "--start", "2026-03-01") == [1, 2, 6]
    assert shown(monkeypatch, "--start", "2026-03-01", "--end", "2026-03-02", "--feed", "sales") == [1, 2, 5]


def test_a_last_day_without_a_first_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ActionRequiredError, match="--end needs --start"):
        shown(monkeypatch, "--end", "2026-03-01")


def test_on_a_terminal_an_entry_is_lines_with_what_a_person_needs() -> None:
    line = {
        "sequence": 27,
        "kind": "delivery",
        "recorded_at": "2026-03-01T05:30:59+00:00",
        "by": None,
        "why": None,
        "subject": "sales/2026/03/01/a.csv@35cf",
        "entry": {
            "feed": "sales",
            "day": "2026-03-01",
            "verdict": "landed",
            "sha256": "ab" * 32,
            "hash_key": "c",
            "rows": 320,
            "available_from": "2026-03-01T00:00:00.000000+00:00",
            "parts": ["a", "b"],
            "since": "2026-02-28",
            "part": "20260228",
            "lacks": {},
        },
    }
    assert [*entry_words(line)] == [
        "    27  2026-03-01 05:30 UTC  delivery sales 2026-03-01 landed",
        "        sales/2026/03/01/a.csv@35cf",
        "        rows 320, available from 2026-03-01 00:00 UTC, parts 2, since 2026-02-28, part 20260228",
    ]
    decided = {**line, "kind": "decision", "by": "Ada", "why": "checked", "entry": {"decision": "accept"}}
    assert next(entry_words(decided)) == "    27  2026-03-01 05:30 UTC  decision accept, by Ada: checked"


RECORD = Landed(interval=RUN, rows=9, new=3, known=0)


@pytest.mark.parametrize(
    ("options", "width", "is_json"),
    [((), None, True), ((), 80, False), (("--json",), 80, True), (("--json",), None, True)],
)
def test_a_record_is_lines_on_a_terminal_only(
    monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], width: int | None, *, is_json: bool
) -> None:
    """CliRunner's standard output is no terminal."""
    monkeypatch.setattr("include.cli_records.terminal_width", lambda: width)
    monkeypatch.setattr("include.cli._run", lambda *_, **__: RECORD)
    monkeypatch.setattr("include.cli.load_project", lambda name: name)
    typed = ["land", "--project", "ferries", "--start", "2026-03-01", *options]
    result = CliRunner().invoke(app, typed, catch_exceptions=False)
    if is_json:
        assert Landed.model_validate_json(result.output) == RECORD
    else:
        assert result.output == "✓ land 2026-03-01: 3 new deliveries, 0 known before\n"


def test_each_command_that_prints_a_record_can_print_json() -> None:
    """A step's record is parsed by scripts and by people who look for what the lines leave out."""
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    steps = "land extract validate revalidate build_features prepare fit evaluate gate promote score publish shadow"
    others = (
        "outcomes monitor skew unpublish repair accept withdraw approve decline reproduce rehash pull report preflight "
        "public_page"
    )
    for name in f"{steps} {others}".split():
        assert "--json" in {option for param in group.commands[name].params for option in param.opts}, name


def test_what_a_step_did_is_a_line_and_the_rest_is_laid_out() -> None:
    scored = Scored(
        interval=RUN, rows=9, model="m", table=None, days=(ScoredDay(day=RUN.start, model_version=3, rows=9),)
    )
    assert [*words(scored, 80)] == [
        "✓ scored 2026-03-01: 9 rows",
        "  model  m",
        "  days",
        "    day         model version  rows  horizon days",
        "    2026-03-01              3     9             0",
    ]
    nothing = Scored(interval=RUN, rows=0, model="m", table=None, days=())
    assert [*words(nothing, 80)] == ["– scored 2026-03-01: m has no champion for 2026-03-01; nothing to score"]


def test_a_message_that_waits_or_was_given_up_is_shown_in_lines() -> None:
    moment = datetime(2026, 3, 1, 5, tzinfo=UTC)
    message = {
        "id": 7, "state": "waiting", "kind": "action", "subject": "m", "destination": "crm", "created_at": moment,
        "next_try_at": moment, "attempts": 2, "last_error": "answered 500", "payload": {"text": "m: a list\n1. x"},
    }  # fmt: skip
    assert [*message_words(message)] == [
        "– 7 waiting: action about m to crm, since 2026-03-01 05:00 UTC, 2 tries, next try 2026-03-01 05:00 UTC",
        "    answered 500",
        "    m: a list",
    ]
    given_up = {**message, "state": "given up", "next_try_at": None, "attempts": 1, "last_error": None}
    assert next(message_words(given_up)).endswith("1 try") and next(message_words(given_up)).startswith("✗ 7 given up")
