"""The forms: the fields of a run with help texts and validation, and the functions with which a task reads them."""

from datetime import date
from typing import Any, cast

from airflow.sdk import Param, get_current_context
from airflow.sdk.exceptions import AirflowFailException

from include.core.interval import Interval
from include.core.project import Project
from include.core.records import DataView, PublishMode

REQUESTED = "retrain__"
"""How the id of a run begins that alerts asked for."""


def day(project: Project) -> Param:
    """Return the field for the day that a run handles."""
    return Param(
        None,
        type=["null", "string"],
        format="date",
        title="Run date",
        description=f"A day ({project.timezone}). If empty: the date of the run's logical date.",
    )


def first_and_last_day(project: Project) -> dict[str, Param]:
    """Return the fields `start` and `end`, both required."""

    def required(title: str, description: str) -> Param:
        return Param(type="string", format="date", title=title, description=description)

    return {
        "start": required("First day", f"The first run date ({project.timezone})."),
        "end": required("Last day", "The last run date, included."),
    }


def data() -> Param:
    """Return the field for the data view of a run."""
    return Param(
        "point_in_time",
        type="string",
        enum=["point_in_time", "latest"],
        values_display={
            "point_in_time": "point_in_time: what the run date's own run knew",
            "latest": "latest: everything landed since as well",
        },
        title="Data view",
        description=(
            "point_in_time: each day reads what its own run knew, so that a backfill gives the same results. "
            "latest: each day also reads corrections that came later. Its results are stored beside the first ones, "
            "and only runs with data: latest read them."
        ),
    )


def publish() -> Param:
    """Return the field that says whether readers see the scores of a run."""
    return Param(
        "auto",
        type="string",
        enum=["auto", "replace", "missing"],
        values_display={
            "auto": "auto: missing in a backfill, else replace",
            "replace": "replace: readers see the new scores",
            "missing": "missing: publish only days without published scores",
        },
        title="Publish",
        description=(
            "replace: readers see the new scores; cli unpublish undoes it. missing: readers keep what they see; "
            "scores that differ are stored beside it, and the log says how many. auto: missing in a backfill, "
            "also for runs that the backfill resets; otherwise replace."
        ),
    )


def version() -> Param:
    """Return the field for the version that scores."""
    return Param(
        "champion",
        type="string",
        pattern="^(champion|newest|[1-9][0-9]*)$",
        examples=["champion", "newest"],
        title="Model version",
        description=(
            "champion: each day's champion, from the promotion history. newest: the newest champion, also for past "
            "days, although it may have been trained on their outcomes. Or the number of a version."
        ),
    )


def models(names: list[str]) -> Param:
    """Return the field for the models that score."""
    return Param(
        names,
        type="array",
        items={"type": "string", "enum": names},
        examples=names,
        minItems=1,
        title="Models",
        description="The models to score and publish. Default: all.",
    )


def displace_newer() -> Param:
    """Return the field that says whether the training of a past day may replace a newer champion."""
    return Param(
        False,
        type="boolean",
        title="Replace a newer champion",
        description="Allow the training of a past day to replace a champion that the training of a later day made.",
    )


def rollback(project: Project) -> dict[str, Param]:
    """Return the fields of a rollback."""
    return {
        "version": Param(
            "previous",
            type="string",
            pattern="^(previous|[1-9][0-9]*)$",
            examples=["previous"],
            title="Back to version",
            description=(
                "previous: the champion before the champion of now; after a rollback, that rollback again. Or the "
                "number of a version that was the champion."
            ),
        ),
        "why": Param(
            type="string",
            minLength=3,
            title="Why",
            description="The reason, for the promotion history. Required.",
        ),
        "by": Param(
            None,
            type=["null", "string"],
            title="Who decides",
            description="Your name. If empty: the Airflow user that starts the run.",
        ),
        "from_day": Param(
            None,
            type=["null", "string"],
            format="date",
            title="Past days from",
            description=(
                f"The first day ({project.timezone}) whose published scores change. If empty: the newest published "
                "day, so that past days stay as they are."
            ),
        ),
        "force": Param(
            False,
            type="boolean",
            title="To a version that was never the champion",
            description="Allow a version that the gate rejected or that was never the champion.",
        ),
    }


def run_date(project: Project) -> date:
    """Return the run date: the field `day`, else the date of the logical date in the project's timezone.

    Raises:
        AirflowFailException: the run has neither of them, or a run of a backfill has a `day` that is not its own.
    """
    context = get_current_context()
    chosen, logical_date = context["params"].get("day"), context["dag_run"].logical_date
    if (
        chosen
        and is_backfill()
        and (logical_date is None or date.fromisoformat(chosen) != project.day_of(logical_date))
    ):
        raise AirflowFailException(
            f"the conf of this backfill sets day {chosen} for each run; remove `day` from the conf: each run has one"
        )
    if chosen:
        return date.fromisoformat(chosen)
    if logical_date is None:
        raise AirflowFailException(
            "this run has neither a logical date nor a day: start it again with a day in the form "
            f"""(or: airflow dags trigger <dag> --conf '{{"day": "{project.first_day}"}}')"""
        )
    return project.day_of(logical_date)


def interval() -> Interval:
    """Return the days `start` to `end` of a run of a range.

    Raises:
        AirflowFailException: the last day is before the first.
    """
    params = get_current_context()["params"]
    start, end = date.fromisoformat(params["start"]), date.fromisoformat(params["end"])
    if end < start:
        raise AirflowFailException(f"the last day, {end}, is before the first, {start}")
    return Interval(start=start, end=end)


def data_view() -> DataView:
    """Return the data view of this run."""
    return cast(DataView, param("data", "point_in_time"))


def publish_mode() -> PublishMode:
    """Return the publish mode of this run. By default, a backfill keeps what readers see."""
    chosen = param("publish", "auto")
    if chosen == "auto":
        return "missing" if is_backfill() else "replace"
    return cast(PublishMode, chosen)


def param(name: str, default: Any) -> Any:
    """Return a field of the form, or the default for a run that was started before the field existed."""
    return get_current_context()["params"].get(name, default)


def is_requested() -> bool:
    """Return whether alerts asked for this run of a training; see `dags/retrain.py`."""
    return str(get_current_context()["run_id"]).startswith(REQUESTED)


def is_backfill() -> bool:
    """Return whether this run belongs to a backfill, also when the backfill reset it."""
    return bool(get_current_context()["dag_run"].run_type == "backfill")
