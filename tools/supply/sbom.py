"""`make sbom`: write a bill of materials in CycloneDX's JSON: everything that the product runs with.

Of an image, it has Python packages, Debian packages and jars, as `tools.supply.inventory` finds them in the image.
Without an image, it has the packages of the production lock and the jars inside them, as .venv has them.
"""

import json
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

import typer
from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import OutputFormat, SchemaVersion
from cyclonedx.validation import make_schemabased_validator
from packageurl import PackageURL

from include import __version__
from include.cli_say import say
from tools.generated import ROOT
from tools.supply.inventory import IMAGE, PATH, SOURCE, SOURCE_VERSION, Item, inventory
from tools.supply.licences import Policy
from tools.supply.lock import PRODUCTION, locked

OUT = ROOT / "dist" / "sbom.json"
NAME = "nightly-ml"

LICENCES = LicenseFactory()


def main(image: str = "", out: Path = OUT) -> None:
    """Write the bill of materials of an image, or of the production lock.

    Args:
        image: an image that Docker knows; empty for the packages of the production lock in this environment.
        out: the file to write.
    """
    items = of_image(image) if image else of_lock(inventory())
    text = write(items, of=image)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text, encoding="utf-8")
    kinds = {kind: sum(item["kind"] == kind for item in items) for kind in ("python", "jar", "debian")}
    say(f"{out}: {kinds['python']} Python packages, {kinds['jar']} jars, {kinds['debian']} Debian packages")
    if not image:
        say("Debian packages are in an image only: make sbom IMAGE=nightly-ml:latest")


def of_image(image: str) -> list[Item]:
    """Return what is installed in an image."""
    command = ["docker", "run", "--rm", "--network=none", image, "python", "-m", "tools.supply.inventory"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{image} cannot be listed: {done.stderr.strip()}. `make up` builds nightly-ml:latest")
    return list(json.loads(done.stdout))


def of_lock(items: Iterable[Item]) -> list[Item]:
    """Keep what the production lock brings: its Python packages and the jars inside them."""
    production = locked(PRODUCTION)
    return [
        item for item in items if item["kind"] == "jar" or (item["kind"] == "python" and item["name"] in production)
    ]


def write(items: Iterable[Item], of: str = "") -> str:
    """Return a bill of materials as CycloneDX JSON, checked against the schema."""
    bom, product = Bom(), Component(name=NAME, version=__version__, type=ComponentType.APPLICATION, bom_ref=NAME)
    product.licenses.add(LICENCES.make_with_expression("Apache-2.0"))
    bom.metadata.component = product
    if of:
        bom.metadata.properties.add(Property(name=IMAGE, value=of))
    policy = Policy.load()
    components: dict[str, Component] = {}
    for item in items:
        component = _component(item, policy)
        reference = str(component.bom_ref.value)
        if reference in components:  # the same library inside several jars
            components[reference].properties.update(component.properties)
        else:
            components[reference] = component
            bom.components.add(component)
    _add_dependencies(bom, product, list(components.values()))
    text = JsonV1Dot6(bom).output_as_string(indent=1)
    validator = make_schemabased_validator(OutputFormat.JSON, SchemaVersion.V1_6)
    if error := validator.validate_str(text):
        raise SystemExit(f"the bill of materials does not follow CycloneDX's schema: {error}")
    return text + "\n"


def _component(item: Item, policy: Policy) -> Component:
    purl = _purl(item)
    component = Component(
        name=item["name"],
        version=item["version"],
        group=item.get("group"),
        type=ComponentType.LIBRARY,
        purl=purl,
        bom_ref=purl.to_string() if purl else f"jar:{item['name']}@{item['version']}",
    )
    if licence := policy.licence(item):
        known = LICENCES.make_from_string(licence)
        component.licenses.add(known)
    said = {PATH: item.get("path"), SOURCE: item.get("source"), SOURCE_VERSION: item.get("source_version")}
    component.properties.update(Property(name=name, value=value) for name, value in said.items() if value)
    if "sha256" in item:
        component.hashes.add(HashType(alg=HashAlgorithm.SHA_256, content=item["sha256"]))
    return component


def _purl(item: Item) -> PackageURL | None:
    if item["kind"] == "python":
        return PackageURL("pypi", None, item["name"], item["version"])
    if item["kind"] == "debian":
        qualifiers = {"arch": item["architecture"], "distro": item["release"]}
        return PackageURL("deb", item["release"].partition("-")[0], item["name"], item["version"], qualifiers)
    # some jars do not say of which group they are, and a purl without one would name another library
    return PackageURL("maven", item["group"], item["name"], item["version"]) if "group" in item else None


def _add_dependencies(bom: Bom, product: Component, components: Sequence[Component]) -> None:
    """Say which package needs which, as the lock does, and which jars are inside one. The product needs the rest."""
    lock = locked(PRODUCTION)
    python = {each.name: each for each in components if each.purl and each.purl.type == "pypi"}
    needed: dict[str, list[Component]] = {}
    for name, component in python.items():
        for needed_by in {parent for each in lock.get(name, ()) for parent in each.needed_by} & python.keys():
            needed.setdefault(needed_by, []).append(component)
    for component in components:
        for folder in {str(each.value).partition("/")[0] for each in component.properties if each.name == PATH}:
            if folder in python:
                needed.setdefault(folder, []).append(component)
    for name, component in python.items():
        bom.register_dependency(component, needed.get(name, ()))
    children = {each for group in needed.values() for each in group}
    bom.register_dependency(product, [each for each in components if each not in children])


if __name__ == "__main__":
    typer.run(main)
