"""PDFs: the only module of the product that makes them, from its own pages.

WeasyPrint needs Debian's libpango and a font. The same page gives the same bytes with the same libraries and fonts.
"""

import hashlib
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

from include.core.errors import ActionRequiredError

_VARIABLE = re.compile(r"var\((--[a-z0-9-]+)\)")


PRESENTATION = frozenset({
    *("fill", "fill-opacity", "stroke", "stroke-width", "stroke-dasharray", "stroke-linejoin"),
    *("font-family", "font-size", "font-weight"),
})
"""The properties that the parts of charts have as attributes."""


class NoPdfError(ActionRequiredError):
    """This machine lacks a library of the system, so it can make no PDF."""


def require_pdf() -> None:
    """Check that this machine can make PDFs.

    Raises:
        NoPdfError: says what to install.
    """
    try:
        import weasyprint  # noqa: F401
    except OSError as error:  # the package is there, and a library that it loads is not
        missing = str(error).split(":")[0]
        raise NoPdfError(
            f"no PDF: this machine lacks a library of the system ({missing}). Install Pango and a font; on Debian and "
            "Ubuntu: apt-get install libpango-1.0-0 libpangoft2-1.0-0 fonts-dejavu-core. "
            "`tools/need pango` says the command for this machine. The HTML page has the same content."
        ) from error


def make_pdf(html: str) -> bytes:
    """Return a page of the product as PDF, on paper of size A4, with what its style sheet says of print.

    Args:
        html: a page made by `nightly_pages.page`. It loads nothing, and nothing is loaded for it.

    Raises:
        NoPdfError: a library of the system is missing.
    """
    require_pdf()
    from weasyprint import HTML

    logging.getLogger("weasyprint").setLevel(logging.ERROR)  # it warns of each property that paper does not have
    page = HTML(string=html, url_fetcher=_refuse)
    _style_charts(page.wrapper_element)
    identifier = hashlib.sha256(html.encode()).digest()[:16]
    return cast(bytes, page.write_pdf(pdf_identifier=identifier, uncompressed_pdf=False))


def _refuse(url: str, *_: Any, **__: Any) -> Any:
    raise ValueError(f"a page of the product is complete in itself, and this one wants to load {url}")


def _style_charts(root: Any) -> None:
    """Give each part of a chart its style on paper as attributes.

    WeasyPrint applies the style sheet of a page to everything but the inside of an SVG.

    Args:
        root: the element of the page, with cssselect2's view of it.
    """
    import cssselect2
    import tinycss2

    matcher = cssselect2.Matcher()
    for style in root.etree_element.iter("style"):
        for selectors, declarations in _rules(tinycss2.parse_stylesheet(style.text or "", True, True)):
            for selector in cssselect2.compile_selector_list(selectors):
                if selector.pseudo_element is None:
                    matcher.add_selector(selector, declarations)

    def style_all(element: Any, inherited: Mapping[str, str]) -> None:
        own = {name: text for *_, found in matcher.match(element) for name, text in found}
        custom = {**inherited, **{name: text for name, text in own.items() if name.startswith("--")}}
        for name in PRESENTATION & own.keys():
            element.etree_element.set(name, _resolved(own[name], custom))
        for child in element.iter_children():
            style_all(child, custom)

    of_page = {name: text for *_, found in matcher.match(root) for name, text in found if name.startswith("--")}
    for element in [each for each in root.iter_subtree() if each.local_name == "svg"]:
        for child in element.iter_children():
            style_all(child, of_page)


def _rules(rules: Iterable[Any]) -> Iterator[tuple[Any, list[tuple[str, str]]]]:
    """Yield selector and declarations of each rule that applies on paper."""
    import tinycss2

    for rule in rules:
        if rule.type == "qualified-rule":
            parsed = tinycss2.parse_blocks_contents(rule.content, True, True)
            found = [
                (each.name, tinycss2.serialize(each.value).strip()) for each in parsed if each.type == "declaration"
            ]
            yield rule.prelude, [one for name, text in found for one in _longhand(name, text)]
        elif (
            rule.type == "at-rule"
            and rule.lower_at_keyword == "media"
            and tinycss2.serialize(rule.prelude).strip() == "print"
        ):
            yield from _rules(tinycss2.parse_rule_list(rule.content, True, True))


def _longhand(name: str, text: str) -> list[tuple[str, str]]:
    """Return `font: 12px sans-serif` as the two properties that an SVG understands."""
    if name != "font":
        return [(name, text)]
    size, _, family = text.partition(" ")
    return [("font-size", size.split("/")[0]), ("font-family", family)]


def _resolved(text: str, custom: Mapping[str, str]) -> str:
    """Return a value without variables."""
    while found := _VARIABLE.search(text):
        text = text.replace(found[0], custom.get(found[1], "inherit"))
    return text
