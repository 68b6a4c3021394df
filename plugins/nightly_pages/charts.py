"""Charts as SVG inside of a page, with the numbers as a table below. Pure; the same values give the same bytes.

Colours are classes of `page.css`, which has them for light and dark. Series differ in their dashes or marks as well,
for readers who do not see colours. Texts are escaped here.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from textwrap import wrap

from markupsafe import Markup

WIDTH, HEIGHT = 560, 300
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 14, 46
"""Room around a plot; to its left more, if the numbers of its axis are long."""
SERIES = 6
"""Colours that `page.css` has; a chart with more series begins again with the first."""
BAR_HEIGHT = 22
MAX_LABEL = 30
LETTER = 9
"""Width of a letter where charts are small, on paper and on phones, where `report.css` makes their texts larger."""
DIGIT, MARK = 10.8, 5.4
"""Width of a digit, and of a point or comma, there. Numbers are wider than words."""
GAP = 6
"""Between a number and its line."""
UPRIGHT = 20
"""How far the upright label of an axis reaches to the right there."""
LINE = 18
"""And each further line of it."""
UPRIGHT_LETTERS, UPRIGHT_LINES = 28, 2
"""Letters of a line of an upright label that the height of a chart has room for there, and lines."""
TABLE_ROWS = 40
"""Rows of a table below a chart; of longer series, every nth point is listed."""

Point = tuple[float, float]


@dataclass(frozen=True)
class Series:
    """Points of a line, in order, or single marks.

    Attributes:
        name: for the legend.
        points: x and y.
        marks: whether points are marked; without, they are joined only.
        line: whether points are joined.
        guide: a line to compare with, such as the diagonal; it is grey and has no numbers.
    """

    name: str
    points: Sequence[Point]
    marks: bool = False
    line: bool = True
    guide: bool = False


@dataclass(frozen=True)
class Bar:
    """A bar: its label, its value, and the ends of its interval, if it has one."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Band:
    """An area between two lines, such as the middle 80 % of something: x, lower y, upper y."""

    name: str
    points: Sequence[tuple[float, float, float]]


@dataclass(frozen=True)
class Event:
    """A vertical line at an x, such as a promotion: a short label at its top, and a sentence about it."""

    x: float
    label: str
    about: str


@dataclass(frozen=True)
class Axis:
    """An axis: its label with the unit, and where it must reach; the values decide the rest.

    `names` are written at 0, 1, 2, … instead of numbers: every nth if they are too long, such as days, or all of them,
    shortened, if they are `labels`.
    """

    label: str
    low: float | None = None
    high: float | None = None
    names: Sequence[str] = ()
    labels: bool = False


def number(value: float | None) -> str:
    """Return a number as people read it, with up to four digits."""
    if value is None or not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}" if size < 1e7 else f"{value:.3g}"
    return f"{value:.4g}" if size >= 1e-4 else f"{value:.2g}"


def lines(
    title: str,
    about: str,
    x: Axis,
    y: Axis,
    series: Sequence[Series],
    *,
    bands: Sequence[Band] = (),
    events: Sequence[Event] = (),
) -> Markup:
    """Return a chart of lines or marks.

    Args:
        title: above the chart.
        about: what it shows, and how to read it, for people who do not see it too.
        x: the axis to the right.
        y: the axis upwards.
        series: the lines; those without a finite point are left out.
        bands: areas behind them.
        events: vertical lines, which the page lists in words elsewhere.
    """
    shown = [(each, points) for each in series if (points := [p for p in each.points if _finite(p)])]
    areas = [(each, corners) for each in bands if (corners := [p for p in each.points if _finite(p)])]
    if not shown and not areas:
        return _nothing(title, about)
    xs = [p[0] for _, points in shown for p in points] + [p[0] for _, points in areas for p in points]
    ys = [p[1] for _, points in shown for p in points] + [v for _, points in areas for p in points for v in p[1:]]
    plot = _Plot(_Scale.of(x, xs), _Scale.of(y, ys), x, y)
    if plot.upright[-1].endswith("…"):
        about = f"{about} Upright axis: {y.label}."
    parts = [plot.frame()]
    for nth, (_, corners) in enumerate(areas):
        outline = [(x, high) for x, _, high in corners] + [(x, low) for x, low, _ in reversed(corners)]
        drawn = _path(plot.at(*corner) for corner in outline)
        parts.append(Markup('<polygon class="area s{}" points="{}"/>').format(nth % SERIES, drawn))
    parts += plot.events(events)
    place = 0
    legend: list[tuple[str, str]] = [("area", each.name) for each, _ in areas]
    for each, joined in shown:
        css = "guide" if each.guide else f"s{place % SERIES}"
        place += not each.guide
        legend.append((css, each.name))
        if each.line:
            drawn = _path(plot.at(*p) for p in joined)
            parts.append(Markup('<polyline class="line {}" points="{}"/>').format(css, drawn))
        if each.marks:
            mark = Markup('<circle class="mark {}" cx="{}" cy="{}" r="3.2"/>')
            parts += [mark.format(css, *plot.at(*p)) for p in joined]
    head = [x.label, *(part for each, _ in areas for part in (f"{each.name}, from", "to"))]
    head += [each.name for each, _ in shown if not each.guide]
    return _figure(title, about, WIDTH, HEIGHT, parts, legend, _table_of_lines(x, head, shown, areas))


def bars(title: str, about: str, unit: str, values: Sequence[Bar], *, zero: bool = True) -> Markup:
    """Return horizontal bars, in the order given, with their intervals.

    Args:
        title: above the chart.
        about: what it shows.
        unit: of the values.
        values: the bars; those without a finite value are left out.
        zero: whether the axis begins at 0.
    """
    found = [bar for bar in values if math.isfinite(bar.value)]
    if not found:
        return _nothing(title, about)
    ends = [v for bar in found for v in (bar.value, bar.low, bar.high) if v is not None and math.isfinite(v)]
    least, most = min(0.0, *ends), max(0.0, *ends)
    if zero and -least < most / 40:  # the end of an interval just below 0 would move all bars away from their labels
        least = 0.0
    axis = Axis(unit, low=least if zero else None, high=most if zero else None)
    scale = _Scale.of(axis, [max(v, least) for v in ends] if zero else ends)
    left = min(280, 24 + LETTER * max(len(_short(bar.label)) for bar in found))
    height = TOP + BAR_HEIGHT * len(found) + BOTTOM
    right = WIDTH - RIGHT - 72

    def at(value: float) -> float:
        return round(left + scale.share(value) * (right - left), 1)

    longest = max(len(number(tick)) for tick in scale.ticks)
    every = math.ceil(len(scale.ticks) * LETTER * (longest + 1) / (right - left))
    parts = [
        Markup('<line class="grid" x1="{0}" x2="{0}" y1="{1}" y2="{2}"/><text class="tick" text-anchor="middle" '
               'x="{0}" y="{3}">{4}</text>').format(at(t), TOP, height - BOTTOM, height - BOTTOM + 19,
                                                    "" if nth % every else number(t))
        for nth, t in enumerate(scale.ticks)
    ]  # fmt: skip
    origin = at(min(max(0.0, scale.low), scale.high))
    for row, bar in enumerate(found):
        top, end = TOP + row * BAR_HEIGHT, at(bar.value)
        parts.append(
            Markup('<text class="tick" text-anchor="end" x="{}" y="{}">{}</text>').format(
                left - 8, top + 15, _short(bar.label)
            )
        )
        parts.append(
            Markup('<rect class="bar {}" x="{}" y="{}" width="{}" height="{}"/>').format(
                "s0" if bar.value >= 0 else "s1", min(origin, end), top + 4, round(abs(end - origin), 1), BAR_HEIGHT - 8
            )
        )
        edge = max(origin, end)
        if bar.low is not None and bar.high is not None and math.isfinite(bar.low + bar.high):
            edge = max(edge, at(bar.high))
            parts.append(
                Markup('<line class="whisker" x1="{0}" x2="{1}" y1="{2}" y2="{2}"/>').format(
                    at(bar.low), at(bar.high), top + BAR_HEIGHT / 2
                )
            )
        parts.append(
            Markup('<text class="value" x="{}" y="{}">{}</text>').format(edge + 6, top + 15, number(bar.value))
        )
    parts.append(
        Markup('<text class="label" text-anchor="middle" x="{}" y="{}">{}</text>').format(
            (left + right) / 2, height - 8, _clean(unit)
        )
    )
    with_ends = any(bar.low is not None for bar in found)
    head = ["", unit, *(["from", "to"] if with_ends else [])]
    rows = [
        [bar.label, number(bar.value), *([number(bar.low), number(bar.high)] if with_ends else [])] for bar in found
    ]
    return _figure(title, about, WIDTH, height, parts, [], (head, rows))


def columns(title: str, about: str, x: Axis, y: Axis, edges: Sequence[float], groups: Sequence[Series]) -> Markup:
    """Return a histogram: for each group the share of its rows between two edges, as steps.

    Args:
        title: above the chart.
        about: what it shows.
        x: the axis of the values.
        y: the axis of the shares.
        edges: one more than each group has points.
        groups: y of each point is the share; x is not used.
    """
    stepped = [
        Series(
            each.name,
            [
                point
                for left, right, (_, share) in zip(edges, edges[1:], each.points, strict=False)
                for point in ((left, share), (right, share))
            ],
        )
        for each in groups
    ]
    return lines(title, about, x, y, stepped)


def heat(title: str, about: str, rows: Sequence[str], heads: Sequence[str], cells: Sequence[Sequence[float]]) -> Markup:
    """Return a table whose cells are shaded by their share of the row, such as a confusion matrix. It is a table."""
    body = Markup("").join(
        Markup('<tr><th scope="row">{}</th>{}</tr>').format(
            _clean(name),
            Markup("").join(
                Markup('<td class="heat h{}">{}<br><small>{:.0%}</small></td>').format(
                    min(4, int(5 * value / total)) if total else 0, number(value), value / total if total else 0.0
                )
                for value in row
            ),
        )
        for name, row in zip(rows, cells, strict=True)
        for total in [sum(row)]
    )
    head = Markup("").join(Markup('<th scope="col">{}</th>').format(_clean(each)) for each in heads)
    return Markup(
        '<figure><figcaption><b>{}</b> {}</figcaption><div class="wide"><table class="heated"><thead><tr><td></td>{}'
        "</tr></thead><tbody>{}</tbody></table></div></figure>\n"
    ).format(_clean(title), _clean(about), head, body)


def spark(about: str, shares: Sequence[float]) -> Markup:
    """Return a small histogram for the cell of a table."""
    most = max(shares, default=0.0)
    if not most or not math.isfinite(most):
        return Markup("")
    step = 96 / len(shares)
    drawn = Markup("").join(
        Markup('<rect class="bar s0" x="{}" y="{}" width="{}" height="{}"/>').format(
            round(n * step, 1),
            round(24 - 22 * share / most, 1),
            round(max(step - 1, 0.5), 1),
            round(22 * share / most, 1),
        )
        for n, share in enumerate(shares)
        if share > 0
    )
    return Markup(
        '<svg class="spark" viewBox="0 0 96 25" width="96" height="25" role="img" aria-label="{}">{}</svg>'
    ).format(_clean(about), drawn)


def trend(about: str, values: Sequence[float | None]) -> Markup:
    """Return a small line for the cell of a table: one value a day, a gap for a day without one, the last marked."""
    found = [value for value in values if value is not None and math.isfinite(value)]
    if not found:
        return Markup("")
    low, high = min(found), max(found)
    step = 90 / max(1, len(values) - 1)

    def at(n: int, value: float) -> Point:
        share = (value - low) / (high - low) if high > low else 0.5
        return round(3 + n * step, 1), round(21 - 17 * share, 1)

    runs: list[list[Point]] = [[]]
    for n, value in enumerate(values):
        if value is None or not math.isfinite(value):
            runs.append([])
        else:
            runs[-1].append(at(n, value))
    drawn = Markup("").join(
        Markup('<polyline class="line s0" points="{}"/>').format(_path(run))
        if len(run) > 1
        else Markup('<circle class="mark s0" cx="{}" cy="{}" r="1"/>').format(*run[0])
        for run in runs
        if run
    )
    last = next(run for run in reversed(runs) if run)[-1]
    return Markup(
        '<svg class="spark" viewBox="0 0 96 25" width="96" height="25" role="img" aria-label="{}">{}'
        '<circle class="mark s0" cx="{}" cy="{}" r="2.4"/></svg>'
    ).format(_clean(about), drawn, *last)


@dataclass(frozen=True)
class _Scale:
    low: float
    high: float
    ticks: tuple[float, ...]

    @classmethod
    def of(cls, axis: Axis, values: Sequence[float]) -> "_Scale":
        low = min(values) if axis.low is None else min(axis.low, *values)
        high = max(values) if axis.high is None else max(axis.high, *values)
        if axis.names:
            return cls(low - 0.3, high + 0.3, tuple(float(n) for n in range(len(axis.names))))
        if low == high:
            low, high = low - (abs(low) or 1) * 0.5, high + (abs(high) or 1) * 0.5
        step = _nice((high - low) / 5)
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        return cls(first * step, last * step, tuple(round(n * step, 12) for n in range(first, last + 1)))

    def share(self, value: float) -> float:
        return (value - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class _Plot:
    across: _Scale
    up: _Scale
    x: Axis
    y: Axis

    @cached_property
    def upright(self) -> list[str]:
        """The lines of the upright label; of a text that is longer than they are, the last ends with an ellipsis."""
        return wrap(_clean(self.y.label), UPRIGHT_LETTERS, max_lines=UPRIGHT_LINES, placeholder="…") or [""]

    @cached_property  # each point asks for it
    def left(self) -> int:
        """Where the plot begins: the numbers of its axis have room beside the label, also where texts are large."""
        longest = max(sum(MARK if c in ".,-" else DIGIT for c in number(tick)) for tick in self.up.ticks)
        return max(LEFT, math.ceil(UPRIGHT + LINE * (len(self.upright) - 1) + longest + GAP))

    def at(self, x: float, y: float) -> Point:
        return (
            round(self.left + self.across.share(x) * (WIDTH - self.left - RIGHT), 1),
            round(HEIGHT - BOTTOM - self.up.share(y) * (HEIGHT - TOP - BOTTOM), 1),
        )

    def events(self, events: Sequence[Event]) -> list[Markup]:
        """Return the lines of events; a label that would cover the one before is left out, its sentence is not."""
        parts, free = [], 0.0
        for event in sorted(events, key=lambda each: each.x):
            if not self.across.low <= event.x <= self.across.high:
                continue
            x, text = self.at(event.x, self.up.low)[0], _short(event.label, 12)
            drawn = Markup("")
            if x >= free:
                anchor = "end" if x > WIDTH - RIGHT - LETTER * len(text) else "start"
                place = x - 4 if anchor == "end" else x + 4
                drawn = Markup('<text class="event" text-anchor="{}" x="{}" y="{}">{}</text>').format(
                    anchor, place, TOP + 11, text
                )
                free = x + LETTER * (len(text) + 1)
            parts.append(
                Markup('<g><title>{}</title><line class="event" x1="{}" x2="{}" y1="{}" y2="{}"/>{}</g>').format(
                    _clean(event.about), x, x, TOP, HEIGHT - BOTTOM, drawn
                )
            )
        return parts

    def frame(self) -> Markup:
        parts = []
        letters, count = int((WIDTH - self.left - RIGHT) / LETTER), max(1, len(self.x.names))
        room = max(3, letters // count - 1) if self.x.labels else 12
        longest = max((len(_short(name, room)) for name in self.x.names), default=0)
        every = 1 if self.x.labels else math.ceil(count / max(2, letters // (longest + 1)))
        for n, tick in enumerate(self.across.ticks):
            x, y = self.at(tick, self.up.low)
            if self.x.names and n % every:
                continue
            text = _short(self.x.names[n], room) if self.x.names else number(tick)
            parts.append(
                Markup('<line class="grid" x1="{0}" x2="{0}" y1="{1}" y2="{2}"/><text class="tick" '
                       'text-anchor="middle" x="{3}" y="{4}">{5}</text>').format(
                    x, TOP, y, min(x, WIDTH - LETTER * len(text) / 2), y + 20, text)
            )  # fmt: skip
        for tick in self.up.ticks:
            x, y = self.at(self.across.low, tick)
            down = 4 if tick > self.up.low else 3  # below the lowest number is the first one of the other axis
            parts.append(
                Markup('<line class="grid" x1="{0}" x2="{1}" y1="{2}" y2="{2}"/><text class="tick" text-anchor="end" '
                       'x="{3}" y="{4}">{5}</text>').format(
                    self.left, WIDTH - RIGHT, y, x - GAP, y + down, number(tick))
            )  # fmt: skip
        middle = round((TOP + HEIGHT - BOTTOM) / 2, 1)
        parts.append(
            Markup('<text class="label" text-anchor="middle" x="{}" y="{}">{}</text>').format(
                (self.left + WIDTH - RIGHT) / 2, HEIGHT - 8, _clean(self.x.label)
            )
        )
        for nth, line in enumerate(self.upright):
            x = 14 + LINE * nth
            parts.append(
                Markup('<text class="label" text-anchor="middle" transform="rotate(-90 {0} {1})" x="{0}" y="{1}">{2}'
                       "</text>").format(x, middle, line)
            )  # fmt: skip
        return Markup("").join(parts)


def _figure(
    title: str,
    about: str,
    width: int,
    height: int,
    parts: Sequence[Markup],
    legend: Sequence[tuple[str, str]],
    table: tuple[Sequence[str], Sequence[Sequence[str]]],
) -> Markup:
    drawn = Markup("").join(parts)
    names = f"c{sha256((title + about + drawn).encode()).hexdigest()[:10]}"
    keys = Markup("").join(
        Markup(
            '<span><svg class="key" viewBox="0 0 22 10" width="22" height="10" aria-hidden="true">{}</svg>{}</span>'
        ).format(
            Markup('<rect class="area s0" x="0" y="0" width="22" height="10"/>')
            if css == "area"
            else Markup('<line class="line {}" x1="0" x2="22" y1="5" y2="5"/>').format(css),
            _clean(name),
        )
        for css, name in legend
    )
    head = Markup("").join(Markup('<th scope="col">{}</th>').format(_clean(each)) for each in table[0])
    rows = Markup("").join(
        Markup("<tr>{}</tr>").format(Markup("").join(Markup("<td>{}</td>").format(_clean(cell)) for cell in row))
        for row in table[1]
    )
    return Markup(
        '<figure><figcaption><b>{}</b> {}</figcaption><svg class="chart" viewBox="0 0 {} {}" role="img" '
        'aria-labelledby="{}t {}d"><title id="{}t">{}</title><desc id="{}d">{}</desc>{}</svg>{}'
        '<details><summary>Numbers</summary><div class="wide"><table><thead><tr>{}</tr></thead><tbody>{}</tbody>'
        "</table></div></details></figure>\n"
    ).format(
        *(_clean(title), _clean(about), width, height, names, names, names, _clean(title), names, _clean(about), drawn),
        Markup('<p class="legend">{}</p>').format(keys) if keys else "",
        *(head, rows),
    )


def _table_of_lines(
    x: Axis,
    head: Sequence[str],
    shown: Sequence[tuple[Series, Sequence[Point]]],
    areas: Sequence[tuple[Band, Sequence[tuple[float, float, float]]]],
) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """Return the values at each x; of two lines with the same x side by side, as those of a step, the last."""
    by_x: dict[float, dict[int, list[str]]] = {}
    measured = [*(a[1] for a in areas), *(points for each, points in shown if not each.guide)]
    for place, points in enumerate(measured):
        for point in points:
            by_x.setdefault(point[0], {})[place] = [number(v) for v in point[1:]]
    wide = [2] * len(areas) + [1] * (len(measured) - len(areas))
    ordered = sorted(by_x)
    every = max(1, math.ceil(len(ordered) / TABLE_ROWS))
    rows = []
    for at in ordered[::every]:
        named = x.names[int(at)] if x.names and at == int(at) and 0 <= at < len(x.names) else number(at)
        values = [cell for place, width in enumerate(wide) for cell in by_x[at].get(place, [""] * width)]
        rows.append([named, *values])
    return head, rows


def _nothing(title: str, about: str) -> Markup:
    return Markup(
        '<figure><figcaption><b>{}</b> {}</figcaption><p class="soft">There is nothing to draw.</p></figure>\n'
    ).format(_clean(title), _clean(about))


def _nice(step: float) -> float:
    """Return 1, 2, 2.5 or 5 times a power of ten that is at least the step."""
    power = 10.0 ** math.floor(math.log10(step))
    return power * next(each for each in (1, 2, 2.5, 5, 10) if each * power >= step * (1 - 1e-9))


def _path(points: Iterable[Point]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in points)


def _finite(values: Sequence[float]) -> bool:
    return all(math.isfinite(value) for value in values)


def _short(text: str, most: int = MAX_LABEL) -> str:
    text = _clean(text)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _clean(text: str) -> str:
    """Return a text without characters that are invisible or break a line. Callers make them visible before."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(text))
