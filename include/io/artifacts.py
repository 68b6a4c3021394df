"""Pages for people, below `settings.artifacts`: a folder or an object store. What is on them is not decided here."""

from include.core.settings import Settings
from include.io import storage
from include.io.landing import write_whole


def write(settings: Settings, path: str, content: str) -> str:
    """The file appears whole, in place of one of the same path; returns where it is."""
    filesystem, root = storage.filesystem(settings, settings.artifacts)
    target = f"{root.rstrip('/')}/{path}"
    write_whole(filesystem, target, content.encode())
    return str(filesystem.unstrip_protocol(target))
