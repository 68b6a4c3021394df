"""What cells of the notebook show: text, tables and charts, each with a form for notebooks and one in plain text."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from include.core.printable import printable
from include.core.terminal import table
from nightly_pages.pictures import picture


@dataclass(frozen=True)
class Words:
    """Text in Markdown."""

    markdown: str

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return {"text/markdown": self.markdown, "text/plain": self.markdown}


@dataclass(frozen=True)
class Numbers:
    """A table; the columns in `right` are numbers."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    right: Sequence[str] = ()

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        def cells(tag: str, texts: Sequence[str]) -> Markup:
            return Markup("").join(
                Markup("<{0}{1}>{2}</{0}>").format(
                    Markup(tag), Markup(' class="n"') if name in self.right else "", printable(text)
                )
                for name, text in zip(self.head, texts, strict=True)
            )

        body = Markup("\n").join(Markup("<tr>{}</tr>").format(cells("td", row)) for row in self.rows)
        html = Markup("<table>\n<thead><tr>{}</tr></thead>\n<tbody>\n{}\n</tbody>\n</table>").format(
            cells("th", self.head), body
        )
        return {"text/html": str(html), "text/plain": "\n".join(table(self.head, self.rows, None, right=self.right))}


@dataclass(frozen=True)
class Chart:
    """A chart of `nightly_pages`, and its numbers."""

    figure: Markup

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        svg, text = picture(self.figure)
        return {"image/svg+xml": svg, "text/plain": text}


Shown = Words | Numbers | Chart


def show(*shown: Shown) -> None:
    """Show things below the cell, in order."""
    from IPython.display import display

    for each in shown:
        display(each)
