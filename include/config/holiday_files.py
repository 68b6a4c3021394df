"""Read the files of dates that the calendars of feeds name (`holidays: {file: …}`)."""

from datetime import date
from pathlib import Path

from include.core.errors import ConfigError
from include.core.feeds import Feed
from include.core.project import Project
from include.core.yaml_file import key_error


def with_holiday_files(project: Project) -> Project:
    """Return the project with the dates of those files in its calendars.

    Raises:
        ConfigError: a file is missing, or a line is not a date. The message names the file and the line.
    """
    feeds = {name: _with_file(project, name, feed) for name, feed in project.feeds.items()}
    return project.model_copy(update={"feeds": feeds})


def _with_file(project: Project, name: str, feed: Feed) -> Feed:
    if feed.holidays is None or feed.holidays.file is None:
        return feed
    path = project.folder / feed.holidays.file
    if not path.is_file():
        declared = project.folder / "project.yaml"
        raise key_error(declared, f"feeds.{name}.holidays.file: there is no file {path}")
    dates = (*feed.holidays.dates, *_dates(path))
    return feed.model_copy(update={"holidays": feed.holidays.model_copy(update={"dates": dates})})


def _dates(path: Path) -> list[date]:
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if written := line.split("#", 1)[0].strip():
            try:
                found.append(date.fromisoformat(written))
            except ValueError as error:
                raise ConfigError(f"{path}, line {number}: not a date; write it as 2026-12-24") from error
    return found
