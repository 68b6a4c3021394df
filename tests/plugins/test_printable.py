"""Commands, notes and links show text from outside; they obey nothing of it."""

import inspect
import io
import re
from typing import Any
from unittest.mock import MagicMock

import pytest

import nightly_links
from include.core import printable as of_include
from nightly_backfill import log, printable
from nightly_backfill.console import PlainConsole
from nightly_links import ModelVersionLink
from nightly_notes import LACKS, note_of
from tests.pages import HOSTILE
from tests.plugins.conftest import PLUGINS

EVERY = "".join(map(chr, range(0x110000)))


def test_the_copy_gives_the_same_as_the_original() -> None:
    assert printable.printable(EVERY) == of_include.printable(EVERY)
    for text in (*HOSTILE, "a\n\tb\n    c\r\nd", "http://x www.y a_b"):
        for name in ("printable", "printable_each", "printable_lines", "markdown"):
            assert getattr(printable, name)(text) == getattr(of_include, name)(text)
    assert printable.INDENT == of_include.INDENT


@pytest.mark.parametrize("text", HOSTILE)
def test_a_console_prints_a_text_as_it_is(text: str) -> None:
    written = io.StringIO()
    PlainConsole(file=written, force_terminal=True, width=80).print(f"! {text}", style="yellow")
    shown = re.sub(r"^\x1b\[33m(.*)\x1b\[0m\n$", r"\1", written.getvalue(), flags=re.DOTALL)
    assert shown.replace("\x1b[0m\n\x1b[33m", "\n") == "\n".join(printable.printable_each(f"! {text}"))


def test_plugins_print_on_plain_consoles_only() -> None:
    files = [path for path in PLUGINS.rglob("*.py") if path.name != "console.py"]
    texts = {path.name: path.read_text(encoding="utf-8") for path in files}
    assert any("PlainConsole(" in text for text in texts.values())
    printing = [name for name, text in texts.items() if re.search(r"(?<![\w.])(?:Console|print)\(", text)]
    assert not printing, "make a PlainConsole, and print on it"


def test_a_line_of_a_tasks_log_cannot_look_like_two(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = MagicMock()
    line.model_dump.return_value = {
        "event": "refused: a.csv\n12:00:00 info    accepted\x1b[2K",
        "error_detail": [{"exc_type": "ValueError", "exc_value": "b\n12:00:00 info    done"}],
    }
    monkeypatch.setattr(log, "create_session", MagicMock())
    monkeypatch.setattr(log, "TaskLogReader", lambda: MagicMock(read_log_chunks=lambda *_: ([line], {})))
    inspect.unwrap(log.show)(MagicMock(dag_id="d", task_id="t", run_id="r", map_index=-1, try_number=1))
    assert capsys.readouterr().out.splitlines() == [
        "refused: a.csv",
        "    12:00:00 info    accepted\\u001b[2K",
        "  ValueError: b",
        "    12:00:00 info    done",
    ]


def test_a_note_is_text_where_airflow_renders_markdown() -> None:
    sentence = "goes on without <img src=x> [a](http://evil.example) a_b.csv\n# late\u202e"
    note = note_of({"x": [{"prepared_days": [{"day": "2024-03-03", "lacks": {"winds": sentence}}]}]})
    shown = r"\<img src=x\> \[a\](http\://evil.example) a\_b.csv\\n\# late\\u202e"
    assert note == f"{LACKS}winds: 2024-03-03 goes on without {shown}"


@pytest.mark.parametrize("address", ["javascript:alert(1)", "data:text/html,x", "//evil.example", ""])
def test_a_button_leads_to_a_web_page_only(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    connection: Any = type("C", (), {"extra_dejson": {"ui_url": address}})
    monkeypatch.setattr("nightly_links.Connection.get", lambda _: connection)
    assert nightly_links.ui_url() is None


def test_a_record_cannot_change_where_a_button_leads() -> None:
    record = {"model": "late/../../x", "model_version": "3?a=b#/evil"}
    address = ModelVersionLink().address("http://mlflow", record)
    assert address == (
        "http://mlflow/#/models/late%2F..%2F..%2Fx/versions/3%3Fa%3Db%23%2Fevil?workflowType=machine_learning"
    )
