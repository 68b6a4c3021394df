"""Reports of periods as files, in the folder `_reports` beside the tables: one folder for each project."""

from include.core.periods import Period
from include.core.settings import Settings
from include.io import storage
from include.io.landing import write_whole

FOLDER = "_reports"


def report_path(project: str, period: Period, ending: str) -> str:
    """Return the path of a report below the folder of all reports, such as <project>/week/2013-W10.pdf."""
    return f"{project}/{period.kind}/{period.name}.{ending}"


def write_report(settings: Settings, path: str, content: bytes) -> str:
    """Write a file of a report in one move, replacing one of the same path, and return its URI."""
    filesystem, root = storage.filesystem(settings, settings.tables)
    target = f"{root.rstrip('/')}/{FOLDER}/{path}"
    write_whole(filesystem, target, content)
    return str(filesystem.unstrip_protocol(target))
