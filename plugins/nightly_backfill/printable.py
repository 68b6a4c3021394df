"""Show text from outside, such as a log line or the name of an object, without obeying what is in it.

This is a copy of `include/core/printable.py`, because plugins do not import `include`. The two are compared by
`tests/plugins/test_printable.py`.
"""

import re

INDENT = "    "
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
_MARKDOWN = re.compile(r"[\\`*_\[\]<>&#|~@]|:(?=//)|(?<=www)\.", re.IGNORECASE)


def printable(text: str) -> str:
    r"""Return a text in one line, with each control or invisible character as an escape such as `\u202e`."""
    return "".join(c if c.isprintable() and not _INVISIBLE.match(c) else _escape(c) for c in text)


def printable_each(text: str) -> list[str]:
    """Return the lines of a text, in which tabs stay."""
    return ["\t".join(map(printable, line.split("\t"))) for line in text.split("\n")]


def printable_lines(text: str) -> str:
    """Return a text whose line breaks and tabs stay; each line but the first begins with `INDENT`."""
    first, *more = printable_each(text)
    return "\n".join([first, *(line if line.startswith(INDENT) else INDENT + line for line in more)])


def markdown(text: str) -> str:
    """Return a text in one line that a page which renders Markdown shows as it is, without links or HTML."""
    return _MARKDOWN.sub(r"\\\g<0>", printable(text))


def _escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return _SHORT.get(character) or "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))
