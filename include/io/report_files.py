"""Reports of periods as files, in the folder `_reports` beside the tables: one folder for each project."""

from collections.abc import Iterable

from include.core.periods import Period
from include.core.settings import Settings
from include.io import artifacts, storage
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


def pages_having(settings: Settings, project: str, needles: Iterable[str]) -> list[str]:
    """Return the URIs of the pages of a project's reports that have one of these texts."""
    filesystem, root = storage.filesystem(settings, settings.tables)
    folder, wanted = f"{root.rstrip('/')}/{FOLDER}/{project}", [needle.encode() for needle in needles]
    if not wanted or not filesystem.exists(folder):
        return []
    found = artifacts.having(filesystem, folder, wanted)
    return sorted(str(filesystem.unstrip_protocol(path)) for path in found if path.endswith(".html"))


def remove_report(settings: Settings, page: str) -> None:
    """Remove the page with this URI last, and the PDF of the same report before it: a PDF cannot be searched."""
    filesystem, _ = storage.filesystem(settings, settings.tables)
    for uri in (f"{page.removesuffix('html')}pdf", page):
        if filesystem.exists(uri):
            filesystem.rm_file(uri)
