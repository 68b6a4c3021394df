"""List what is installed here: Python packages, the jars inside them, Debian packages. Prints JSON.

It runs inside the image, which has none of the packages that write a bill of materials, so it needs only Python:

    docker run --rm nightly-ml:latest python -m tools.supply.inventory >inventory.json
"""

import hashlib
import json
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageMetadata, distributions
from pathlib import Path
from typing import TypedDict

# the properties of a component in a bill of materials that CycloneDX has no field for
IMAGE, PATH = "nightly-ml:image", "nightly-ml:path"
SOURCE, SOURCE_VERSION = "nightly-ml:source", "nightly-ml:source_version"
MAX_LICENCE = 60
"""A longer text in a package's field `License` is the licence itself, not its name."""
JAR = re.compile(r"(?P<artifact>.+?)-(?P<version>\d[\w.+-]*)\.jar$")
DEBIAN = "${Package}\t${Version}\t${Architecture}\t${source:Package}\t${source:Version}\t${db:Status-Status}\n"


class Item(TypedDict, total=False):
    """One thing that is installed. `path` is where a jar is, and in which jar another one was found."""

    kind: str
    name: str
    version: str
    group: str
    licence: str
    path: str
    sha256: str
    architecture: str
    source: str
    source_version: str
    release: str


def inventory() -> list[Item]:
    """Return everything that is installed, in a fixed order."""
    found = [*python_packages(), *jars(), *_debian()]
    return sorted(found, key=lambda item: (item["kind"], item["name"], item["version"], item.get("path", "")))


def _first(about: PackageMetadata, name: str) -> str:
    """Return a field, empty if there is none: other libraries replace the class, and its [] raises an error then."""
    return str((about.get_all(name) or [""])[0])


def licence_of(distribution: Distribution) -> str:
    """Return what a package says its licence is: an SPDX expression, else classifiers, else a short text, else ''."""
    about = distribution.metadata
    if expression := _first(about, "License-Expression"):
        return str(expression)
    classifiers = [each for each in about.get_all("Classifier") or [] if each.startswith("License :: ")]
    names = [each.rpartition(" :: ")[2] for each in classifiers]
    if names := [name for name in names if name not in ("OSI Approved", "DFSG approved")]:
        return " AND ".join(sorted(names))
    text = _first(about, "License").strip().splitlines()
    return text[0] if text and len(text[0]) <= MAX_LICENCE else ""


def python_packages() -> Iterator[Item]:
    """Yield the Python packages that are installed."""
    for each in distributions():
        name = re.sub(r"[-_.]+", "-", each.metadata["Name"]).lower()
        yield Item(kind="python", name=name, version=each.version, licence=licence_of(each))


def jars() -> Iterator[Item]:
    """Yield the jars inside Python packages."""
    folders = {Path(entry) for entry in sys.path if entry.endswith(("site-packages", "dist-packages"))}
    for folder in sorted(folders):
        for path in sorted(folder.rglob("*.jar")):
            yield from _jar(path, str(path.relative_to(folder)))


def _jar(path: Path, place: str) -> Iterator[Item]:
    """Describe a jar, and the libraries that were packed into it, which bring their Maven coordinates along."""
    named = JAR.match(path.name)
    item = Item(
        kind="jar",
        name=named["artifact"] if named else path.stem,
        version=named["version"] if named else "",
        path=place,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
    )
    inner = []
    for group, artifact, version in _coordinates(path):
        if (artifact, version) == (item["name"], item["version"]):
            item["group"] = group
        else:
            inner.append(Item(kind="jar", name=artifact, version=version, group=group, path=place))
    yield item
    yield from inner


def _coordinates(path: Path) -> Iterator[tuple[str, str, str]]:
    with zipfile.ZipFile(path) as jar:
        for name in jar.namelist():
            if name.startswith("META-INF/maven/") and name.endswith("/pom.properties"):
                lines = jar.read(name).decode("utf-8", "replace").splitlines()
                said = {key.strip(): value.strip() for key, at, value in (line.partition("=") for line in lines) if at}
                if {"groupId", "artifactId", "version"} <= said.keys():
                    yield said["groupId"], said["artifactId"], said["version"]


def _debian() -> Iterator[Item]:
    if shutil.which("dpkg-query") is None:
        return
    said = Path("/etc/os-release").read_text(encoding="utf-8").splitlines()
    about = {key: value.strip('"') for key, _, value in (line.partition("=") for line in said)}
    command = ["dpkg-query", "--show", "--showformat", DEBIAN]
    for line in subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines():
        name, version, architecture, source, source_version, status = line.split("\t")
        if status == "installed":
            yield Item(
                kind="debian",
                name=name,
                version=version,
                architecture=architecture,
                source=source,
                source_version=source_version,
                release=f"{about.get('ID', 'debian')}-{about.get('VERSION_ID', '')}",
            )


if __name__ == "__main__":
    json.dump(inventory(), sys.stdout, indent=1)
    sys.stdout.write("\n")
