"""The frame of a page: one HTML file, complete in itself, in which no text is markup. Pure.

A page loads nothing, and it runs nothing but the script that its caller names. The template escapes every value, and
the policy in the page's head lets a browser apply its one style sheet, run that one script and do nothing else, so that
even a mistake in a template would run no other. A style attribute would not be applied either: charts set classes.
"""

import base64
import hashlib
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

FOLDER = Path(__file__).parent
BASE = FOLDER / "page.css"


def render(
    template: Path,
    values: dict[str, Any],
    *,
    visible: Callable[[str], str],
    styles: Sequence[Path] = (),
    script: Path | None = None,
    asks: bool = True,
) -> str:
    """Return a page.

    Args:
        template: a file that extends `base.html.j2`.
        values: what the template shows.
        visible: makes each character of a text visible to a person; it is applied before the text is escaped.
        styles: style sheets after the common one, which are files of the product.
        script: a script of the product. The browser runs this one only; without it, nothing runs.
        asks: whether the script may ask the server that sent the page; it may ask no other.
    """
    style = "".join(each.read_text(encoding="utf-8") for each in (BASE, *styles))
    run = None if script is None else script.read_text(encoding="utf-8")
    environment = _environment(template.parent, visible)
    return environment.get_template(template.name).render(
        **values,
        style=Markup(style),
        style_digest=_digest(style),
        script=None if run is None else Markup(run),
        script_digest="" if run is None else _digest(run),
        asks=asks,
    )


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


@cache
def _environment(folder: Path, visible: Callable[[str], str]) -> Environment:
    return Environment(
        loader=FileSystemLoader([folder, FOLDER]),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: value if isinstance(value, Markup) else visible(str(value)),
        trim_blocks=True,
        lstrip_blocks=True,
    )
