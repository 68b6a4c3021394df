"""Write pages for people below `settings.artifacts`, in a folder or an object store. Callers decide their content."""

from include.core.settings import Settings
from include.io import storage
from include.io.landing import write_whole


def write(settings: Settings, path: str, content: str) -> str:
    """Write a file in one move, replacing one of the same path, and return its URI."""
    filesystem, root = storage.filesystem(settings, settings.artifacts)
    target = f"{root.rstrip('/')}/{path}"
    write_whole(filesystem, target, content.encode())
    return str(filesystem.unstrip_protocol(target))
