"""`make audit`: look for known vulnerabilities in what the product runs with, offline, in a database that is given.

The database is a folder or a zip of advisories in OSV's format, one file each: such as `all.zip` of an ecosystem
from https://osv.dev, or a clone of https://github.com/pypa/advisory-database (in YAML). Nothing is downloaded, so that
a machine that may not reach the internet can run it.

Exit codes: 0 nothing found, 1 found, 3 no database, or none that knows everything that was to be checked.
"""

import json
import tomllib
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from packageurl import PackageURL

from include.cli_say import say
from tools.supply.inventory import SOURCE, SOURCE_VERSION, jars
from tools.supply.licences import POLICY
from tools.supply.lock import LAPTOP, PRODUCTION, locked, normalised
from tools.supply.versions import ORDER, Unordered

CLEAN, FOUND, NO_DATABASE = 0, 1, 3
MAX_AGE_DAYS = 30

HOW = (
    "Download all.zip of PyPI, Maven and Debian:12 from OSV (docs/security.md, Supply chain) where there is internet, "
    "put them into one folder, and run: make audit AUDIT_DB=<folder>"
)


@dataclass(frozen=True, order=True)
class Component:
    """One thing that may be vulnerable. Without a group, the name of a jar is compared alone."""

    ecosystem: str
    name: str
    version: str
    of: str = ""


@dataclass(frozen=True, order=True)
class Vulnerability:
    """A part that an advisory names, with the versions that fix it."""

    part: Component
    advisory: str
    aliases: tuple[str, ...]
    summary: str
    fixed: tuple[str, ...]
    unordered: bool = False


def main(
    database: Annotated[Path | None, typer.Option(help="folder or zip of advisories in OSV's format")] = None,
    sbom: Annotated[Path | None, typer.Option(help="check what this bill of materials lists, not the locks")] = None,
    only: Annotated[list[str] | None, typer.Option(help="check only this ecosystem: PyPI, Maven or Debian")] = None,
    max_age_days: Annotated[int, typer.Option(help="refuse a database whose newest advisory is older")] = MAX_AGE_DAYS,
) -> None:
    """Report each part that an advisory names."""
    if database is None or not database.exists():
        place = f"{database} does not exist" if database else "no database is given"
        raise typer.Exit(_no_database(f"{place}: nothing was checked. {HOW}"))
    raise typer.Exit(audit(parts_of(sbom, only or ()), database, max_age_days))


def audit(wanted: Sequence[Component], database: Path, max_age_days: int = MAX_AGE_DAYS) -> int:
    """Print what was found; return the exit code."""
    known_by_name: dict[str, dict[str, list[Component]]] = {}
    for part in wanted:
        known_by_name.setdefault(part.ecosystem, {}).setdefault(part.name, []).append(part)
    known: Counter[str] = Counter()
    newest = ""
    found: set[Vulnerability] = set()
    for advisory in _advisories(database):
        newest = max(newest, str(advisory.get("modified", "")))
        affected = [each for each in advisory["affected"] if _ecosystem(each) in known_by_name]
        known.update({_ecosystem(each) for each in affected})
        for each in affected:
            found.update(_findings(advisory, each, known_by_name[_ecosystem(each)]))
    missing = sorted(known_by_name.keys() - known.keys())
    if missing or not wanted:
        return _no_database(
            f"{database} has no advisory about {', '.join(missing) or 'anything to check'}, so nothing is known. "
            f"{HOW}. To check less: ONLY=PyPI"
        )
    age = (datetime.now(UTC).date() - date.fromisoformat(newest[:10])).days if newest else max_age_days + 1
    if age > max_age_days:
        return _no_database(f"the newest advisory of {database} is {age} days old, more than {max_age_days}. {HOW}")
    sizes = Counter(part.ecosystem for part in wanted)
    counts = ", ".join(f"{sizes[name]} of {name} against {known[name]} advisories" for name in sorted(known))
    return _report(sorted(found), f"{counts}; the newest is of {newest[:10]}")


def _report(found: Sequence[Vulnerability], checked: str) -> int:
    accepted = _accepted()
    open_ = []
    for finding in found:
        names = {finding.advisory, *finding.aliases}
        reason = next((accepted[name] for name in sorted(names & accepted.keys())), None)
        if reason:
            say(f"accepted: {_line(finding)}. {reason}")
        else:
            open_.append(finding)
            say(_line(finding))
    say(f"Checked: {checked}.")
    if not open_:
        say("No known vulnerability that is not accepted." if found else "No known vulnerability.")
        return CLEAN
    say(
        f"{len(open_)} found. Choose a fixed version (make lock LOCK_FLAGS='--upgrade-package <name>'), or accept it "
        "with a reason and a date in tools/supply/policy.toml.",
        error=True,
    )
    return FOUND


def _line(finding: Vulnerability) -> str:
    part, aliases = finding.part, f" ({', '.join(finding.aliases)})" if finding.aliases else ""
    fixed = f"fixed in {', '.join(finding.fixed)}" if finding.fixed else "no fixed version is known"
    doubt = "; whether its version is affected could not be computed: look" if finding.unordered else ""
    return (
        f"{part.name} {part.version}{f' [{part.of}]' if part.of else ''}: {finding.advisory}{aliases}: "
        f"{finding.summary or 'no summary'}; {fixed}{doubt}"
    )


def _no_database(why: str) -> int:
    say(f"NOT CHECKED: {why}", error=True)
    return NO_DATABASE


def _accepted(today: date | None = None) -> dict[str, str]:
    """Return the advisories that the team accepts today, with the reason."""
    today = today or datetime.now(UTC).date()
    entries = tomllib.loads(POLICY.read_text(encoding="utf-8")).get("accepted", [])
    return {each["id"]: f"Until {each['until']}: {each['reason']}" for each in entries if today <= each["until"]}


# --- what to check ----------------------------------------------------------------------------------------------------


def parts_of(sbom: Path | None = None, only: Sequence[str] = ()) -> list[Component]:
    """Return what a bill of materials lists, or without one: what either lock names, and the jars of .venv."""
    with_jars = not only or "Maven" in only
    found = [*_of_sbom(sbom)] if sbom else [*_of_locks(), *(_of_jars() if with_jars else ())]
    return sorted({part for part in found if not only or part.ecosystem.partition(":")[0] in only})


def _of_locks() -> Iterator[Component]:
    production = locked(PRODUCTION)
    for name, versions in {**locked(LAPTOP), **production}.items():
        for each in versions:
            yield Component("PyPI", name, each.version, "production" if name in production else "laptop and CI")


def _of_jars() -> Iterator[Component]:
    for item in jars():
        if item["version"]:
            name = f"{item['group']}:{item['name']}" if "group" in item else item["name"]
            yield Component("Maven", name, item["version"], item["path"])


def _of_sbom(path: Path) -> Iterator[Component]:
    for each in json.loads(path.read_text(encoding="utf-8"))["components"]:
        said = {item["name"]: item["value"] for item in each.get("properties", ())}
        purl = PackageURL.from_string(each["purl"]) if "purl" in each else None
        if purl is None:
            yield Component("Maven", each["name"], each["version"])
        elif purl.type == "pypi":
            yield Component("PyPI", normalised(purl.name), str(purl.version))
        elif purl.type == "maven":
            yield Component("Maven", f"{purl.namespace}:{purl.name}", str(purl.version))
        elif purl.type == "deb":
            # Debian's advisories are about source packages
            release = dict(purl.qualifiers or {})["distro"].replace("-", ":").title()
            yield Component(release, said.get(SOURCE, purl.name), said.get(SOURCE_VERSION, str(purl.version)))


# --- advisories -------------------------------------------------------------------------------------------------------


def _advisories(database: Path) -> Iterator[Mapping[str, Any]]:
    """Yield every advisory of a folder or zip that was not withdrawn."""
    for name, text in _texts(database):
        try:
            advisory = json.loads(text) if name.endswith(".json") else yaml.safe_load(text)
        except (ValueError, yaml.YAMLError) as error:
            raise SystemExit(f"{name} in {database} cannot be read: {error}. Download the database again") from error
        if isinstance(advisory, dict) and advisory.get("affected") and not advisory.get("withdrawn"):
            yield advisory


def _texts(place: Path) -> Iterator[tuple[str, bytes]]:
    if place.is_dir():
        for path in sorted(place.rglob("*")):
            if path.suffix in (".json", ".yaml", ".zip"):
                yield from _texts(path)
    elif zipfile.is_zipfile(place):
        with zipfile.ZipFile(place) as archive:
            for name in archive.namelist():
                if name.endswith((".json", ".yaml")):
                    yield name, archive.read(name)
    elif place.suffix in (".json", ".yaml"):
        yield str(place), place.read_bytes()
    else:
        raise SystemExit(f"{place} is neither a folder, nor a zip, nor JSON, nor YAML")


def _ecosystem(affected: Mapping[str, Any]) -> str:
    return str(affected.get("package", {}).get("ecosystem", ""))


def _findings(
    advisory: Mapping[str, Any], affected: Mapping[str, Any], parts: Mapping[str, Sequence[Component]]
) -> Iterator[Vulnerability]:
    name = str(affected["package"]["name"])
    concerned = parts.get(normalised(name) if _ecosystem(affected) == "PyPI" else name, ())
    if _ecosystem(affected) == "Maven":  # a jar that does not say its group is compared by the rest of the name
        concerned = [*concerned, *parts.get(name.rpartition(":")[2], ())]
    for part in concerned:
        try:
            is_affected, unordered = is_vulnerable(part, affected), False
        except Unordered:
            is_affected, unordered = True, True
        if is_affected:
            events = [event for span in affected.get("ranges", ()) for event in span.get("events", ())]
            fixed = tuple(str(event["fixed"]) for event in events if "fixed" in event)
            aliases = tuple(sorted(advisory.get("aliases", ())))
            details = str(advisory.get("details", "")).strip().partition("\n")[0]
            summary = str(advisory.get("summary") or details)[:200]
            yield Vulnerability(part, str(advisory["id"]), aliases, summary, fixed, unordered)


def is_vulnerable(part: Component, affected: Mapping[str, Any]) -> bool:
    """Tell whether the version of a part is one that an advisory is about, by the rules of OSV's schema.

    Raises:
        Unordered: the versions cannot be compared.
    """
    if part.version in affected.get("versions", ()):
        return True
    order = ORDER[part.ecosystem.partition(":")[0]]
    for span in affected.get("ranges", ()):
        if span["type"] == "GIT":
            continue
        here, inside = order(part.version), False
        events = [(kind, version) for event in span["events"] for kind, version in event.items()]
        for kind, version in sorted(events, key=lambda event: (event[1] != "0", order(event[1]), event[0])):
            at = order(version)
            if kind == "introduced" and (version == "0" or at <= here):
                inside = True
            elif (kind == "fixed" and at <= here) or (kind == "last_affected" and at < here):
                inside = False
        if inside:
            return True
    return False


if __name__ == "__main__":
    typer.run(main)
