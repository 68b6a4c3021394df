"""The page about a validation shows every text as text, loads nothing and runs nothing."""

import base64
import hashlib
import re
import threading
from collections.abc import Iterator
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from include.core.printable import is_printable, printable
from include.quality.expectations import known_expectations
from include.quality.page import NOT_ARGUMENTS, Validation, render
from include.quality.suites import Finding
from tests.pages import HOSTILE, MARKUP, Structure, assert_complete_in_itself, opened


def page_with(text: str, **changes: Any) -> str:
    """Return a page in which everything that can come from outside is this text, for each kind of expectation."""
    about = dict.fromkeys(("project", "feed", "uri", "delivery_id", "run_id", "why"), text)
    validation = Validation(day=date(2026, 3, 4), rows=12, quarantined=3, **{**about, **changes})
    findings, results = [], []
    for number, (name, kind) in enumerate(sorted(known_expectations().items())):
        success = number % 3 == 0
        findings.append(
            Finding(
                expectation=name,
                columns=(text, text),
                severity="critical" if number % 2 else "warning",
                success=success,
                rows=12 if number % 2 else None,
                unexpected_rows=3 if number % 2 else None,
                observed=text,
                by_row=True,
                config=SimpleNamespace(
                    kwargs={field: [text, text] for field in kind.__fields__}, description=text, notes=[text]
                ),
            )
        )
        example = {"row": 2, "key": {text: text}, "value": text}
        results.append({"examples": [] if success else [example] * 2})
    return render(validation, findings, results)


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_becomes_markup_in_any_kind_of_expectation(text: str) -> None:
    page, harmless = Structure(page_with(text)), Structure(page_with("harmless"))
    assert page.elements == harmless.elements
    assert page.text.count(printable(text)) == harmless.text.count("harmless") > 300
    assert all(is_printable(line) for line in page.text.splitlines())


def test_each_kind_shows_its_arguments() -> None:
    assert len(known_expectations()) > 50
    page = page_with("harmless")
    for name, kind in known_expectations().items():
        assert f"<b>{name}</b>" in page
        assert all(f"{field}: harmless" in page for field in kind.__fields__.keys() - NOT_ARGUMENTS), name


@pytest.mark.parametrize("why", [None, MARKUP])
def test_the_page_is_complete_in_itself(why: str | None) -> None:
    assert_complete_in_itself(page_with("harmless", why=why))


def policy_of(page: str) -> str:
    found: str
    [found] = re.findall(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">', page)
    return found


def test_the_policy_allows_the_style_of_the_page_and_nothing_else() -> None:
    page = page_with("harmless")
    [style] = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy_of(page) == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    head = page[: page.index("Content-Security-Policy")]
    assert [tag for tag, _ in Structure(head).elements] == ["html", "head", "meta"], "the policy comes first"


class Listener(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        self.send_response(404)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Write nothing."""


@pytest.fixture
def elsewhere() -> Iterator[ThreadingHTTPServer]:
    """Run a server that a page must not reach."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Listener)
    server.asked = []  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.timeout(300)
def test_a_browser_runs_and_loads_nothing_even_of_markup_that_is_planted_in_the_page(
    tmp_path: Path, elsewhere: ThreadingHTTPServer
) -> None:
    address = f"http://127.0.0.1:{elsewhere.server_port}"
    planted = (
        "<script>document.documentElement.setAttribute('data-script', 'ran')</script>"
        "<img src=x onerror=\"document.documentElement.setAttribute('data-handler', 'ran')\">"
        f"<img src='{address}/image'><script src='{address}/script'></script>"
        f"<link rel=stylesheet href='{address}/style'>"
        f"<iframe src='{address}/frame'></iframe>"
        "<p id=styled style='position: fixed'></p>"
    )
    page = page_with("harmless").replace("<main>", f"<main>{planted}")
    file = tmp_path / "page.html"

    file.write_text(page.replace(policy_of(page), ""), encoding="utf-8")
    document = opened(file)
    assert 'data-script="ran"' in document and 'data-handler="ran"' in document
    assert {"/image", "/script", "/style", "/frame"} <= set(elsewhere.asked)  # type: ignore[attr-defined]

    elsewhere.asked.clear()  # type: ignore[attr-defined]
    file.write_text(page, encoding="utf-8")
    document = opened(file)
    assert 'id="styled"' in document
    assert "data-script" not in document.split("<body>")[0]
    assert "data-handler" not in document.split("<body>")[0]
    assert elsewhere.asked == []  # type: ignore[attr-defined]


@pytest.mark.timeout(300)
def test_a_browser_applies_the_style_of_the_page(tmp_path: Path) -> None:
    """A policy with a wrong digest would leave a page without a style, which no other test would notice."""
    file, picture = tmp_path / "page.html", tmp_path / "page.png"
    for style, name in (("", "plain"), (None, "styled")):
        page = page_with("harmless")
        if style is not None:
            page = page.replace("sha256-", "sha256-x")
        file.write_text(page, encoding="utf-8")
        opened(file, f"--screenshot={picture}", "--window-size=900,1200")
        picture.rename(tmp_path / f"{name}.png")
    assert (tmp_path / "plain.png").read_bytes() != (tmp_path / "styled.png").read_bytes()
