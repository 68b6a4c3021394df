"""Text from outside is shown, not obeyed: in one line, in several, in Markdown, in Slack."""

import json
import unicodedata
from datetime import date

import pytest

from include.core.errors import DataError, UnreadableError
from include.core.printable import INDENT, is_printable, markdown, printable, printable_lines, slack
from include.core.records import Alert, Refusal
from tests.pages import HOSTILE

ALL = [chr(number) for number in range(0x110000)]
OBEYED = [
    *(chr(number) for number in (*range(0x20), *range(0x7F, 0xA0))),  # line breaks, ANSI escapes, C1
    *"\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c",  # direction
    *"\u200b\u200c\u200d\u2060\ufeff\u00ad\u180e\u3164\u115f\uffa0\ufe0f\U000e0100\U000e0041",  # nothing to see
    *"\u2028\u2029\udcff\ue000",
]


@pytest.mark.parametrize("character", OBEYED, ids=ascii)
def test_a_character_that_is_obeyed_or_invisible_is_shown(character: str) -> None:
    shown = printable(f"a{character}b")
    assert shown.isascii()
    assert json.loads(f'"{shown}"', strict=True) == f"a{character}b"


def test_no_text_has_a_control_character_or_one_of_no_width() -> None:
    text = printable("".join(ALL))
    assert {unicodedata.category(c) for c in text} & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"} == set()
    assert printable(text) == text
    assert all(printable(c) == c for c in "é ß 日 🚢 … → ✗ \\ ' \"")


def test_a_line_of_json_keeps_its_meaning() -> None:
    value = {"na\u202eme": "a\x9bb\n\x00\U000e0041 c", "plain": "Grüße"}
    line = printable(json.dumps(value, ensure_ascii=False))
    assert json.loads(line) == value
    assert "Grüße" in line


def test_lines_that_follow_are_indented_once() -> None:
    text = printable_lines("one\n12:00:00 forged\r\n\ttwo\x1b[2K")
    assert text == f"one\n{INDENT}12:00:00 forged\\r\n{INDENT}\ttwo\\u001b[2K"
    assert printable_lines(text) == text


def test_markdown_shows_a_text_as_it_is() -> None:
    """A parser of Markdown, with links to bare addresses as Airflow's pages have them, finds nothing but text."""
    from markdown_it import MarkdownIt

    hostile = (
        "<img src=x onerror=alert(1)> [click](javascript:alert(1)) ![x](http://evil.example/y) **b** _i_ `c` ~~s~~ "
        "http://evil.example www.evil.example me@evil.example &lt;b&gt; <http://evil.example> a|b "
        "\\*c\\* # h\n\n# h\x1b"
    )
    parser = MarkdownIt("gfm-like", {"html": True})
    tokens = [each for token in parser.parse(f"feed: {markdown(hostile)}") for each in token.children or [token]]
    kinds = {token.type for token in tokens}
    assert kinds <= {"paragraph_open", "paragraph_close", "text", "text_special"}, kinds
    assert "".join(token.content for token in tokens) == f"feed: {printable(hostile)}"
    obeyed = [each for token in parser.parse(f"feed: {hostile}") for each in token.children or [token]]
    assert {"html_inline", "link_open", "image", "heading_open", "code_inline"} <= {token.type for token in obeyed}


def test_slack_finds_no_mention_and_no_link() -> None:
    text = slack("late <!channel> & <https://evil.example|our runbook>\nRunbook: x\u202e")
    assert text == "late &lt;!channel&gt; &amp; &lt;https://evil.example|our runbook&gt;\nRunbook: x\\u202e"


@pytest.mark.parametrize("text", HOSTILE)
def test_an_error_has_the_lines_that_its_author_gave_it(text: str) -> None:
    error = DataError.of_days({date(2026, 3, 1): f"{text} is wrong", date(2026, 3, 2): "late"})
    assert error.lines == str(error).split("\n") == [f"{printable(text)} is wrong", "late"]
    assert all(map(is_printable, error.by_day.values()))
    assert is_printable(str(UnreadableError(text, line=3)))


@pytest.mark.parametrize("text", HOSTILE)
def test_a_text_of_a_record_is_one_line(text: str) -> None:
    assert Alert(subject="s", rule="r", day=date(2026, 3, 1), sentence=text).sentence == printable(text)
    assert Refusal(feed="f", day=date(2026, 3, 1), uri="u", why=text).why == printable(text)
