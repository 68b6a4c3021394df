"""Show text from outside as it is: nothing in it is obeyed, and nothing in it is invisible. Pure.

Object names, headers, claims, values and the texts of other programs' errors come from outside. A line break in one
could forge a line of the log, an escape sequence could rewrite a terminal, and a bidirectional override could make a
command look like another one. Here such characters become visible escapes. Data itself keeps its bytes.

This is applied in a few places that all text passes on its way to people: errors (`core/errors.py`), texts of records
(`core/records.py`), log lines (`core/log_lines.py`) and the command line (`cli.py`). Text for a place with markup goes
through `markdown` or `slack` as well. HTML is made by `nightly_pages` only, which escapes it. Plugins have a copy in
`plugins/nightly_backfill/printable.py`, because they do not import `include`.
"""

import html
import re

INDENT = "    "
"""Stands before each line of a text but the first, so that no line looks like a message of its own."""

_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}

# Python calls these printable, but they take no space: fillers, joiners and variation selectors.
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)

_MARKDOWN = re.compile(r"[\\`*_\[\]<>&#|~@]|:(?=//)|(?<=www)\.", re.IGNORECASE)


def is_printable(text: str) -> bool:
    """Return whether a text is one line in which each character is visible."""
    return text.isprintable() and (text.isascii() or not _INVISIBLE.search(text))


def printable(text: str) -> str:
    r"""Return a text in one line, with each control or invisible character as an escape of JSON, such as `\u202e`.

    Text that is printable already does not change, so that it does not matter how often this is applied. A line of JSON
    keeps its meaning.
    """
    return text if is_printable(text) else "".join(c if is_printable(c) else _escape(c) for c in text)


def printable_lines(text: str) -> str:
    """Return a text whose line breaks and tabs stay; each line but the first begins with `INDENT`."""
    first, *more = printable_each(text)
    return "\n".join([first, *(line if line.startswith(INDENT) else INDENT + line for line in more)])


def printable_each(text: str) -> list[str]:
    """Return the lines of a text, in which tabs stay."""
    return ["\t".join(map(printable, line.split("\t"))) for line in text.split("\n")]


def markdown(text: str) -> str:
    """Return a text in one line that a page which renders Markdown shows as it is, without links or HTML."""
    return _MARKDOWN.sub(r"\\\g<0>", printable(text))


def slack(text: str) -> str:
    """Return a message in which Slack finds no mention and no link with another text. Its lines stay."""
    return html.escape("\n".join(printable_each(text)), quote=False)


def _escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return _SHORT.get(character) or "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))
