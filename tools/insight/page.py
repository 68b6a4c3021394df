"""The notebook as a page of the product: for the screen, light and dark, and for paper. It leaves out the code."""

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt
from markupsafe import Markup

import include.report
from include.core.printable import printable
from nightly_pages import page
from nightly_pages.pictures import restored

FOLDER = Path(__file__).parent
FORMS = {"image/svg+xml": "chart", "text/html": "table", "text/markdown": "words"}
REPORT = Path(include.report.__file__).parent


def make_page(title: str, notebook: Any) -> str:
    """Return the page of an executed notebook. It loads nothing and runs nothing.

    Args:
        title: of the page.
        notebook: with the outputs of this process's run: HTML in it is that of `shown.py`.
    """
    words, parts = MarkdownIt("commonmark", {"html": False}), []
    for kind, group in groupby(_shown(notebook), key=lambda each: each[0]):
        if kind == "chart":
            charts = Markup("").join(restored(svg, numbers) for _, svg, numbers in group)
            parts.append(Markup('<div class="charts">{}</div>').format(charts))
        elif kind == "table":
            parts += [Markup('<div class="wide">{}</div>').format(Markup(html)) for _, html, _ in group]
        else:
            parts += [Markup(words.render(text)) for _, text, _ in group]
    return page.render(
        FOLDER / "insight.html.j2",
        {"title": title, "parts": parts},
        visible=printable,
        styles=[REPORT / "report.css", FOLDER / "insight.css"],
    )


def _shown(notebook: Any) -> Iterator[tuple[str, str, str]]:
    """Yield what the notebook shows, in order: its kind, itself, and its plain text."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            yield "words", cell.source, ""
        for output in cell.get("outputs", ()):
            data = output["data"]
            form = next(form for form in FORMS if form in data)
            yield FORMS[form], data[form], data["text/plain"]
