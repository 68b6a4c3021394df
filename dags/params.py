"""The forms: what can be asked of a run, with help texts and validation, and what a task reads of it."""

from datetime import date
from typing import Any, cast

from airflow.sdk import Param, get_current_context
from airflow.sdk.exceptions import AirflowFailException

from include.core.interval import Interval
from include.core.project import Project
from include.core.records import DataView, PublishMode


def day(project: Project) -> Param:
    """Which day a run handles."""
    return Param(
        None,
        type=["null", "string"],
        format="date",
        title="Day",
        description=f"The day to handle ({project.timezone}). Empty: the day of the run's logical date.",
    )


def first_and_last_day(project: Project) -> dict[str, Param]:
    """`start` and `end`, both asked for."""

    def asked(title: str, description: str) -> Param:
        return Param(type="string", format="date", title=title, description=description)

    return {
        "start": asked("First day", f"The first day to handle ({project.timezone})."),
        "end": asked("Last day", "The last day to handle, included."),
    }


def data() -> Param:
    """What the days of a run know."""
    return Param(
        "point_in_time",
        type="string",
        enum=["point_in_time", "latest"],
        values_display={
            "point_in_time": "point_in_time: what the run date's own run knew",
            "latest": "latest: with all that was corrected since",
        },
        title="Data",
        description=(
            "point_in_time: each day knows what its own run knew, so that a backfill is exact. latest: also corrections "
            "that came later; they are kept beside the first results, and read only where they are asked for."
        ),
    )


def publish() -> Param:
    """Whether readers see what a run scores."""
    return Param(
        "auto",
        type="string",
        enum=["auto", "replace", "missing"],
        values_display={
            "auto": "auto: replace, but missing in a backfill",
            "replace": "replace: readers see the new scores",
            "missing": "missing: only days that readers have no scores of",
        },
        title="Publish",
        description=(
            "replace: readers see the new scores; cli unpublish undoes it. missing: what readers saw stays, "
            "scores that differ are stored beside it, and the log says how many. auto: missing in a backfill, "
            "also of days that it resets, else replace."
        ),
    )


def version() -> Param:
    """Which version scores."""
    return Param(
        "champion",
        type="string",
        pattern="^(champion|newest|[1-9][0-9]*)$",
        examples=["champion", "newest"],
        title="Model version",
        description=(
            "champion: the champion of each day by the promotion history. newest: the newest champion, also for past days; "
            "it may have been trained on their outcomes. Or the number of a version."
        ),
    )


def models(names: list[str]) -> Param:
    """Which models score."""
    return Param(
        names,
        type="array",
        items={"type": "string", "enum": names},
        examples=names,
        minItems=1,
        title="Models",
        description="The models to score and publish. All by default.",
    )


def displace_newer() -> Param:
    """Whether a past training may displace a newer champion."""
    return Param(
        False,
        type="boolean",
        title="Displace a newer champion",
        description="Let the training of a past day replace a champion that a later day's training made.",
    )


def run_date(project: Project) -> date:
    """The run day D: the param `day`, else the date of the logical date in the project's timezone.

    Raises `AirflowFailException` in words when the run has neither, or has another one a run of a backfill.
    """
    context = get_current_context()
    asked, logical_date = context["params"].get("day"), context["dag_run"].logical_date
    if asked and is_backfill() and (logical_date is None or date.fromisoformat(asked) != project.day_of(logical_date)):
        raise AirflowFailException(
            f"this backfill says day {asked} for each of its runs; leave `day` out of its conf: each run has its own"
        )
    if asked:
        return date.fromisoformat(asked)
    if logical_date is None:
        raise AirflowFailException(
            "this run has no logical date and no day: start it again with a day in the form "
            """(or: airflow dags trigger <dag> --conf '{"day": "2013-03-01"}')"""
        )
    return project.day_of(logical_date)


def interval() -> Interval:
    """The range of a run that has one, from its params. Raises `AirflowFailException` when it is reversed."""
    params = get_current_context()["params"]
    start, end = date.fromisoformat(params["start"]), date.fromisoformat(params["end"])
    if end < start:
        raise AirflowFailException(f"the last day, {end}, is before the first, {start}")
    return Interval(start=start, end=end)


def data_view() -> DataView:
    """What the days of this run know."""
    return cast(DataView, param("data", "point_in_time"))


def publish_mode() -> PublishMode:
    """What readers saw stays in a backfill, unless it is told otherwise."""
    asked = param("publish", "auto")
    if asked == "auto":
        return "missing" if is_backfill() else "replace"
    return cast(PublishMode, asked)


def param(name: str, default: Any) -> Any:
    """As it was asked for; a run that was started before the param was there has none."""
    return get_current_context()["params"].get(name, default)


def is_backfill() -> bool:
    """Whether this run belongs to a backfill, also one that was reset by it."""
    return bool(get_current_context()["dag_run"].run_type == "backfill")
