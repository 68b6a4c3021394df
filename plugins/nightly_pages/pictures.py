"""A chart as one SVG that is complete in itself, for places that have no style sheet of ours, such as a notebook. Pure.

The picture has the title, the sentence and the legend of the chart inside, on white. `restored` makes the figure of a
page from it again, which is in the page's colours, light and dark.
"""

import re
import textwrap
from collections.abc import Collection
from functools import cache
from hashlib import sha256
from string import Template
from xml.etree import ElementTree as ET

from markupsafe import Markup

from nightly_pages.charts import LETTER, WIDTH
from nightly_pages.page import BASE

SVG = "http://www.w3.org/2000/svg"
LINE, LEGEND = 17, 20
TEXT_LETTER = 6.3
"""Width of a letter of a sentence, in a font of 12 pixels."""

RULES = """
text{font:12px/1.4 system-ui,sans-serif;fill:$soft}
.title{font-weight:600;fill:$ink}
.label{fill:$ink}
.value{fill:$ink}
.grid{stroke:$line}
.whisker{stroke:$ink;stroke-width:1.5}
.s0{fill:$s0;stroke:$s0}
.s1{fill:$s1;stroke:$s1}
.s2{fill:$s2;stroke:$s2}
.s3{fill:$s3;stroke:$s3}
.s4{fill:$s4;stroke:$s4}
.s5{fill:$s5;stroke:$s5}
.bar{stroke:none}
.mark{stroke:none}
.area{stroke:none;fill-opacity:.22}
.line{fill:none;stroke-width:2;stroke-linejoin:round}
.line.s1{stroke-dasharray:7,3}
.line.s2{stroke-dasharray:2,3}
.line.s3{stroke-dasharray:9,3,2,3}
.line.s4{stroke-dasharray:4,4}
.line.s5{stroke-dasharray:12,4}
.guide{stroke:$soft;stroke-width:1.25;stroke-dasharray:3,4}
line.event{stroke:$soft;stroke-dasharray:2,3}
"""
"""The style of the parts of charts, on white; the colours are those of `page.css`."""


def picture(figure: Markup) -> tuple[str, str]:
    """Return a chart of `charts.lines`, `bars` or `columns` as an SVG, and its title and numbers as text.

    Args:
        figure: the chart.
    """
    ET.register_namespace("", SVG)
    tree = ET.fromstring(str(figure))
    plot = tree.find("svg")
    if plot is None:
        raise ValueError("this figure has no chart")
    title, about = plot.findtext("title", ""), plot.findtext("desc", "")
    sentence = textwrap.wrap(about, int(WIDTH / TEXT_LETTER))
    _, _, width, height = (float(each) for each in plot.attrib["viewBox"].split())
    top = LINE * (1 + len(sentence)) + 8
    keys = [(span, "".join(span.itertext()).strip()) for span in tree.findall("p/span")]
    rows = _rows_of_legend([name for _, name in keys])
    whole = top + height + LEGEND * (1 + max((row for row, _ in rows), default=-1))
    root = ET.Element(
        "svg",
        {
            "xmlns": SVG,
            "class": "nightly-chart",
            "viewBox": f"0 0 {width:g} {whole:g}",
            "width": f"{width:g}",
            "role": "img",
        },
    )
    ET.SubElement(root, "title").text = title
    style = ET.SubElement(root, "style")
    ET.SubElement(root, "rect", {"width": "100%", "height": "100%", "fill": "#fff"})
    for nth, line in enumerate([title, *sentence]):
        ET.SubElement(
            root, "text", {"class": "soft" if nth else "title", "x": "4", "y": str(LINE * (nth + 1))}
        ).text = line
    inner = ET.SubElement(
        root,
        "svg",
        {
            "class": "plot",
            "viewBox": plot.attrib["viewBox"],
            "y": str(top),
            "width": f"{width:g}",
            "height": f"{height:g}",
        },
    )
    inner.extend(each for each in plot if each.tag not in {"title", "desc"})
    for (span, name), (row, x) in zip(keys, rows, strict=True):
        key = span.find("svg")
        assert key is not None
        y = top + height + LEGEND * row
        drawn = ET.SubElement(root, "svg", {**key.attrib, "x": f"{x:g}", "y": f"{y + 5:g}"})
        drawn.extend([*key])
        ET.SubElement(root, "text", {"class": "entry", "x": f"{x + 28:g}", "y": f"{y + 14:g}"}).text = name
    style.text = _style({name for each in root.iter() for name in each.get("class", "").split()})
    table = [[cell.text or "" for cell in row] for row in tree.findall("details/div/table/*/tr")]
    svg = re.sub(r"<[^<>]*>", _short_tag, ET.tostring(root, encoding="unicode"))
    return svg, "\n".join([title, about, "", *_aligned(table)])


def restored(svg: str, numbers: str) -> Markup:
    """Return the figure of a page from a picture; the numbers are shown as they are."""
    ET.register_namespace("", SVG)
    root = ET.fromstring(svg)

    def inside(element: ET.Element) -> Markup:
        text = "".join(ET.tostring(each, encoding="unicode") for each in element)
        return Markup(text.replace(f' xmlns="{SVG}"', ""))

    title = root.findtext(f"{{{SVG}}}title", "")
    about = " ".join(each.text or "" for each in root if each.get("class") == "soft")
    plot = next(each for each in root if each.get("class") == "plot")
    keys = [each for each in root if each.get("class") == "key"]
    names = [each.text or "" for each in root if each.get("class") == "entry"]
    legend = Markup("").join(
        Markup(
            '<span><svg class="key" viewBox="0 0 22 10" width="22" height="10" aria-hidden="true">{}</svg>{}</span>'
        ).format(inside(key), name)
        for key, name in zip(keys, names, strict=True)
    )
    names_of = f"p{sha256(svg.encode()).hexdigest()[:10]}"
    return Markup(
        '<figure><figcaption><b>{}</b> {}</figcaption><svg class="chart" viewBox="{}" role="img" '
        'aria-labelledby="{}t {}d"><title id="{}t">{}</title><desc id="{}d">{}</desc>{}</svg>{}'
        "<details><summary>Numbers</summary><pre>{}</pre></details></figure>\n"
    ).format(
        *(title, about, plot.attrib["viewBox"], names_of, names_of, names_of, title, names_of, about, inside(plot)),
        Markup('<p class="legend">{}</p>').format(legend) if legend else "",
        numbers.split("\n\n", 1)[-1],
    )


def _short_tag(tag: re.Match[str]) -> str:
    """Return a tag without `.0`, and with the quotes that JSON, as a notebook is, need not escape."""
    plain = re.sub(r'="(-?\d+)\.0"', r'="\1"', tag[0])
    return re.sub(r'="([^"\']*)"', r"='\1'", plain)


def _style(classes: Collection[str]) -> str:
    """Return the rules for the classes that a chart has."""
    used = [rule for rule in RULES.strip().splitlines() if {*re.findall(r"\.(\w+)", rule.split("{")[0])} <= {*classes}]
    return Template("".join(f".nightly-chart {rule}" for rule in used)).substitute(_colours())


@cache
def _colours() -> dict[str, str]:
    """Return the colours of `page.css` by their names, those of light."""
    found: dict[str, str] = {}
    for name, colour in re.findall(r"--(\w+): (#\w+);", BASE.read_text(encoding="utf-8")):
        found.setdefault(name, colour)
    return found


def _rows_of_legend(names: list[str]) -> list[tuple[int, float]]:
    """Return the row and the place in it of each entry."""
    found, row, x = [], 0, 4.0
    for name in names:
        width = 28 + TEXT_LETTER * len(name) + 2 * LETTER
        if x + width > WIDTH and x > 4:
            row, x = row + 1, 4.0
        found.append((row, x))
        x += width
    return found


def _aligned(rows: list[list[str]]) -> list[str]:
    sizes = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))] if rows else []
    return ["  ".join(cell.ljust(size) for cell, size in zip(row, sizes, strict=True)).rstrip() for row in rows]
