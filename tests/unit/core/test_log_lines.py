"""A log line cannot be forged or hidden by what comes from outside, whoever writes it."""

import ast
import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from include.core.log_lines import FoldedFormatter, PrintableRecord, protect_logs
from tools.stack import ROOT

NAME = "a.csv\n12:00:00 accepted\x1b[2K\r\u202efsv.b"
SHOWN = "a.csv\n    12:00:00 accepted\\u001b[2K\\r\\u202efsv.b"


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """Yield what a logger that knows nothing of the product writes."""
    before, stream = logging.getLogRecordFactory(), io.StringIO()
    handler, log = logging.StreamHandler(stream), logging.getLogger("another_library")
    handler.setFormatter(logging.Formatter("12:30:00 %(message)s"))
    log.addHandler(handler)
    protect_logs()
    yield stream
    log.removeHandler(handler)
    logging.setLogRecordFactory(before)


@pytest.mark.parametrize("arguments", [(f"refused: {NAME}",), ("refused: %s", NAME)])
def test_a_name_cannot_begin_a_line(written: io.StringIO, arguments: tuple[str, ...]) -> None:
    logging.getLogger("another_library").warning(*arguments)
    assert written.getvalue() == f"12:30:00 refused: {SHOWN}\n"


def test_nor_can_the_text_of_an_error(written: io.StringIO) -> None:
    try:
        raise ValueError(NAME)
    except ValueError:
        logging.getLogger("another_library").exception("it failed")
    first, *more = written.getvalue().splitlines()
    assert first == "12:30:00 it failed"
    assert all(line.startswith("    ") or line == "Traceback (most recent call last):" for line in more)
    assert "accepted\\u001b[2K\\r\\u202efsv.b" in more[-1]


def test_what_airflow_makes_of_a_record_is_the_same(written: io.StringIO) -> None:
    """Airflow's tasks send records of the standard library through structlog."""
    rendered = structlog.stdlib.ProcessorFormatter(processor=structlog.processors.JSONRenderer())
    record = logging.getLogRecordFactory()("another_library", 30, "", 1, "refused: %s", (NAME,), None)
    assert json.loads(rendered.format(record))["event"] == f"refused: {SHOWN}"


@pytest.mark.parametrize("width", [80, 200, None])
def test_messages_are_folded_to_a_terminal_and_tracebacks_are_not(
    monkeypatch: pytest.MonkeyPatch, width: int | None
) -> None:
    monkeypatch.setattr("include.core.log_lines.terminal_width", lambda **_: width)
    text = "validate of ferries 2013-03-01: " + "winds/2013-03-01/a.csv is accepted, " * 8
    record = PrintableRecord("a", logging.INFO, "", 1, text + "\n%s", ("x " * 200,), None)
    lines = FoldedFormatter("%(message)s").format(record).splitlines()
    if width is None:
        assert len(lines) == 2
    else:
        assert max(map(len, lines)) <= width and len(lines) > 2
        assert all(line.startswith("    ") for line in lines[1:])
    try:
        raise ValueError("x " * 200)
    except ValueError:
        record = PrintableRecord("a", logging.ERROR, "", 1, "it failed", (), sys.exc_info())
    assert FoldedFormatter("%(message)s").format(record).splitlines()[-1].count("x ") > 190


def test_an_error_that_ends_a_process_is_printed_in_the_same_way() -> None:
    script = (
        f"from include.core.log_lines import log_to_stderr; log_to_stderr('%(message)s'); raise ValueError({NAME!r})"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == "    12:00:00 accepted\\u001b[2K\\r\\u202efsv.b"


def test_each_process_that_runs_steps_protects_its_log() -> None:
    """Whoever sets up logging in another way would write what names say."""
    calls = {path: _calls(path) for folder in ("include", "dags") for path in (ROOT / folder).rglob("*.py")}
    own = ROOT / "include" / "core" / "log_lines.py"
    assert "basicConfig" in calls[own]
    others = [path for path, called in calls.items() if "basicConfig" in called and path != own]
    assert others == [], "call log_to_stderr of include/core/log_lines.py"
    starting = [path for path in calls if 'if __name__ == "__main__"' in path.read_text(encoding="utf-8")]
    silent = [
        ROOT / "dags" / "cli.py",  # it logs nothing, and becomes include/cli.py
        ROOT / "include" / "io" / "registry" / "unpickle.py",  # whoever starts it says what it printed
        ROOT / "include" / "io" / "channels" / "apprise_process.py",  # what it prints is thrown away
    ]
    assert {*starting, ROOT / "dags" / "common.py"} - {*silent} == {
        path for path, called in calls.items() if called & {"log_to_stderr", "protect_logs"} and path != own
    }


def test_the_command_line_prints_in_one_place() -> None:
    tree = ast.parse((ROOT / "include" / "cli.py").read_text(encoding="utf-8"))
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name != "_say"):
        called = {_name(node) for node in ast.walk(function) if isinstance(node, ast.Call)}
        assert not called & {"echo", "secho", "print"}, f"{function.name} of include/cli.py: call _say"


def _calls(path: Path) -> set[str]:
    return {_name(node) for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)}


def _name(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
