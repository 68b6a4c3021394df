"""The frame of a page: one HTML file, complete in itself, in which no text is markup. Pure.

A page loads nothing and runs nothing. The template escapes every value, and the policy in the page's head lets a
browser apply its one style sheet and do nothing else, so that even a mistake in a template would run no script. A
style attribute would not be applied either: charts set classes.
"""

import base64
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

FOLDER = Path(__file__).parent
BASE = FOLDER / "page.css"


def render(
    template: Path, values: dict[str, Any], *, visible: Callable[[str], str], styles: Sequence[Path] = ()
) -> str:
    """Return a page.

    Args:
        template: a file that extends `base.html.j2`.
        values: what the template shows.
        visible: makes each character of a text visible to a person; it is applied before the text is escaped.
        styles: style sheets after the common one, which are files of the product.
    """
    style = "".join(each.read_text(encoding="utf-8") for each in (BASE, *styles))
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    environment = Environment(
        loader=FileSystemLoader([template.parent, FOLDER]),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: value if isinstance(value, Markup) else visible(str(value)),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template.name).render(**values, style=Markup(style), style_digest=digest)
