"""Which feed is the cause of late scores or of drift, so that people get one message, not one for each model. Pure."""

import ast
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from typing import NamedTuple

from include.core.incidents import SCORES_LATE, which_is_late
from include.core.project import Project
from include.core.records import Alert

ROWS_OF_ENTITIES = "(rows)"
"""Stands for the number of rows among what drifted: they are those of the feed of the entities."""

OUTCOME = "outcome "
"""Begins the name of an outcome among what drifted."""

WINDOWS = {"add_windows": r"\d+d", "add_lags": r"lag\d+"}
"""The methods of `Feeds` that add columns of a feed, and how the names of these columns end."""
OF_WINDOWS = ("by", "days", "ages")


class LateFeed(NamedTuple):
    """How late a feed is, in a sentence, and whether the run date still waits for it."""

    sentence: str
    is_missing: bool = False


def late_feeds(
    project: Project, day: date, first_at: Mapping[tuple[str, date], datetime], prepared_at: datetime | None
) -> dict[str, LateFeed]:
    """Map each required feed that was late for a run date to how late it is.

    Args:
        project: the project.
        day: the run date.
        first_at: feed and day of file to the moment from which its first accepted delivery counts.
        prepared_at: when the run date was prepared last; None if it is not.
    """
    cutoff, found = project.cutoff_at(day), dict[str, LateFeed]()
    for feed, needed in project.required_days(day):
        at = first_at.get((feed, needed))
        if at is None:
            sentence = f"feed {feed} is late: it has no accepted delivery of {needed}, which {day} needs"
            found[feed] = LateFeed(sentence, prepared_at is None)
        elif at > cutoff and (prepared_at is None or prepared_at >= at):
            local = at.astimezone(project.zone)
            found[feed] = LateFeed(
                f"feed {feed} was late: its delivery of {needed} came at {local:%H:%M} on {local:%Y-%m-%d}; it was due "
                f"by {project.cutoff:%H:%M} on {day}"
            )
    return found


def name_causes(alerts: Sequence[Alert], late: Callable[[date], Mapping[str, LateFeed]]) -> list[Alert]:
    """Return the alerts, those about late scores with the late feed that is the cause, if there is one.

    Args:
        alerts: what monitors found.
        late: returns the late feeds of a day of scores. All feeds that the day still waits for are named as the cause:
            files are landed when the last one is there, so any of them may be the late one. If it waits for none, the
            first one is named, and the others with it.
    """
    return [_named(alert, late) for alert in alerts]


def _named(alert: Alert, late: Callable[[date], Mapping[str, LateFeed]]) -> Alert:
    if alert.rule != SCORES_LATE or alert.scored_day is None or not (feeds := late(alert.scored_day)):
        return alert
    missing = tuple(feed for feed, found in feeds.items() if found.is_missing)
    cause = ", ".join(missing) or next(iter(feeds))
    sentences = [found.sentence for feed, found in feeds.items() if feed not in missing or len(missing) == 1]
    if len(missing) > 1:
        none = f"none of them has an accepted delivery that {alert.scored_day} needs"
        sentences.insert(0, f"{which_is_late(cause)}: {none}")
    return alert.model_copy(update={"late_feed": cause, "missing_feeds": missing, "because": "; ".join(sentences)})


class Origins:
    """The feed of each feature of a project, as far as names say it.

    A feature is of a feed if a column of the feed has its name, or if `features.py` makes it with `add_windows` or
    `add_lags`, or names it in a function that asks for one feed only
    or is given one only. Of any other feature, the feed is not known.
    """

    def __init__(self, project: Project, features_code: str) -> None:
        self._project = project
        tree = ast.parse(features_code)
        calls = [each for each in ast.walk(tree) if isinstance(each, ast.Call)]
        self._patterns = [made for call in calls if (feed := self._feed_of(call)) for made in _made_by(call, feed)]
        given: dict[str, set[str]] = {}
        for call in calls:
            if isinstance(call.func, ast.Name):
                given.setdefault(call.func.id, set()).update(self._feeds_of(call.args))
        for function in (each for each in ast.walk(tree) if isinstance(each, ast.FunctionDef)):
            feeds = {*self._feeds_of(ast.walk(function)), *given.get(function.name, ())}
            if len(feeds) == 1:
                self._patterns += [(text, *feeds) for text in _texts(function)]

    def of(self, column: str) -> str:
        """Return `feed <name>` of what drifted; `column <name>` or `outcome <name>` if its feed is not known."""
        if column == ROWS_OF_ENTITIES:
            return f"feed {self._project.entity.feed}"
        if column.startswith(OUTCOME):
            return f"feed {self._project.outcomes[column.removeprefix(OUTCOME)].feed}"
        feeds = [name for name, feed in self._project.feeds.items() if column in feed.kept]
        feeds.sort(key=lambda name: name != self._project.entity.feed)
        feeds += [feed for pattern, feed in self._patterns if re.fullmatch(pattern, column)]
        return f"feed {feeds[0]}" if feeds else f"column {column}"

    def _feeds_of(self, nodes: Iterable[ast.AST]) -> Iterator[str]:
        return (feed for each in nodes if isinstance(each, ast.Call) and (feed := self._feed_of(each)))

    def _feed_of(self, call: ast.Call) -> str | None:
        """Return the feed that a call of a method of `Feeds` names."""
        texts = [each.value for each in call.args if isinstance(each, ast.Constant)]
        texts += [each.value.value for each in call.keywords if isinstance(each.value, ast.Constant)]
        if not isinstance(call.func, ast.Attribute) or call.func.attr not in ("current", "history", *WINDOWS):
            return None
        return next((text for text in texts if isinstance(text, str) and text in self._project.feeds), None)


def _made_by(call: ast.Call, feed: str) -> Iterator[tuple[str, str]]:
    """Yield patterns of the columns that a call adds."""
    assert isinstance(call.func, ast.Attribute)
    if ends := WINDOWS.get(call.func.attr):
        for each in call.keywords:
            if each.arg and each.arg not in OF_WINDOWS:
                yield rf"{re.escape(each.arg)}_\w+_{ends}", feed


def _texts(function: ast.FunctionDef) -> Iterator[str]:
    """Yield a pattern for each text of a function that can be the name of a column."""
    inner = {id(part) for node in ast.walk(function) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(function):
        if isinstance(node, ast.JoinedStr):
            made = [re.escape(str(each.value)) if isinstance(each, ast.Constant) else r"\w+" for each in node.values]
            if any(isinstance(each, ast.Constant) for each in node.values):
                yield "".join(made)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner:
            yield re.escape(node.value)


def name_faulty(alerts: Sequence[Alert], origins: Origins) -> list[Alert]:
    """Return the alerts, those about drift with where its cause is.

    Alerts of a run date that have a feed or a column in common are one cause: the feed of most of what drifted, else
    the first column. It says what changed for each model once.
    """
    named = list(alerts)
    groups: list[tuple[set[str], list[int]]] = []
    for place, alert in enumerate(alerts):
        if not alert.drifted:
            continue
        own, members = {f"{alert.day} {origins.of(each)}" for each in alert.drifted}, [place]
        for group in [each for each in groups if each[0] & own]:
            groups.remove(group)
            own, members = own | group[0], [*group[1], *members]
        groups.append((own, members))
    for _, places in groups:
        of_group = sorted((alerts[place] for place in places), key=lambda each: (each.tier, each.subject))
        counts = Counter(origins.of(column) for each in of_group for column in each.drifted)
        faulty = counts.most_common(1)[0][0]
        changed: dict[str, list[str]] = {}
        for each in of_group:
            changed.setdefault(each.because, []).append(each.subject)
        said = "; ".join(f"{', '.join(models)}: {because}" for because, models in changed.items())
        what = f"drift of {faulty} on {of_group[0].day}, compared with the weeks before: {said}. Look at view drift"
        for place in places:
            named[place] = alerts[place].model_copy(update={"faulty": faulty, "because": what})
    return named
