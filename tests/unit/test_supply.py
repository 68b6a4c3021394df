"""What the product is built from: bill of materials, known vulnerabilities, licences, digests of images."""

import json
import os
import subprocess
import sys
import tomllib
import zipfile
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from cyclonedx.schema import OutputFormat, SchemaVersion
from cyclonedx.validation import make_schemabased_validator

from tools.generated import ROOT
from tools.supply import audit, images, inventory, licences, sbom
from tools.supply.audit import CLEAN, FOUND, NO_DATABASE, Component
from tools.supply.inventory import Item
from tools.supply.licences import Policy
from tools.supply.lock import PRODUCTION, locked
from tools.supply.versions import ORDER, Unordered

NOW = datetime.now(UTC).isoformat()

# --- inventory and bill of materials ----------------------------------------------------------------------------------

DEBIAN = Item(
    kind="debian",
    name="libssl3",
    version="3.0.17-1",
    architecture="amd64",
    source="openssl",
    source_version="3.0.17-1",
    release="debian-12",
)


@pytest.fixture(scope="module")
def here() -> list[Item]:
    return inventory.inventory()


@pytest.fixture(scope="module")
def bom(here: list[Item]) -> dict[str, Any]:
    return dict(json.loads(sbom.write([*sbom.of_lock(here), DEBIAN], of="nightly-ml:latest")))


def test_the_bill_of_materials_follows_the_schema(bom: dict[str, Any]) -> None:
    validator = make_schemabased_validator(OutputFormat.JSON, SchemaVersion.V1_6)
    assert validator.validate_str(json.dumps(bom)) is None
    assert bom["bomFormat"] == "CycloneDX"
    broken = bom | {"components": [{"name": "without a type"}]}
    assert validator.validate_str(json.dumps(broken)) is not None


def test_it_has_production_s_packages_with_version_and_licence_and_no_others(bom: dict[str, Any]) -> None:
    python = {c["name"]: c for c in bom["components"] if c.get("purl", "").startswith("pkg:pypi/")}
    production = locked(PRODUCTION)
    assert python.keys() <= production.keys()
    assert {name for name, versions in production.items() if versions[0].marker is None} <= python.keys()
    for name, component in python.items():
        assert component["version"] in {each.version for each in production[name]}
        assert component["licenses"], name


def test_it_has_the_jars_of_spark_and_what_is_packed_into_them(bom: dict[str, Any]) -> None:
    jars = {c["name"]: c for c in bom["components"] if c.get("purl", "").startswith("pkg:maven/")}
    pyspark = locked(PRODUCTION)["pyspark"][0].version
    assert jars["spark-core_2.13"]["version"] == pyspark
    [digest] = jars["spark-core_2.13"]["hashes"]
    assert digest["alg"] == "SHA-256" and len(digest["content"]) == 64
    inside = [c for c in jars.values() if "hashes" not in c]
    assert len(inside) > 50


def test_it_has_debian_s_packages_with_their_source(bom: dict[str, Any]) -> None:
    [openssl] = [c for c in bom["components"] if c.get("purl", "").startswith("pkg:deb/")]
    assert openssl["purl"] == "pkg:deb/debian/libssl3@3.0.17-1?arch=amd64&distro=debian-12"
    assert {"name": "nightly-ml:source", "value": "openssl"} in openssl["properties"]


def test_it_says_which_package_needs_which(bom: dict[str, Any]) -> None:
    needs = {each["ref"]: each.get("dependsOn", []) for each in bom["dependencies"]}
    of_mlflow = next(found for ref, found in needs.items() if ref.startswith("pkg:pypi/mlflow@"))
    assert any(ref.startswith("pkg:pypi/skops@") for ref in of_mlflow)
    of_pyspark = next(found for ref, found in needs.items() if ref.startswith("pkg:pypi/pyspark@"))
    assert any(ref.startswith("pkg:maven/org.apache.spark/") for ref in of_pyspark)
    reached, todo = set[str](), ["nightly-ml"]
    while todo:
        if (ref := todo.pop()) not in reached:
            reached.add(ref)
            todo += needs.get(ref, [])
    assert {c["bom-ref"] for c in bom["components"]} == reached - {"nightly-ml"}


def test_the_inventory_needs_nothing_but_python() -> None:
    """The image has no package that writes bills of materials."""
    command = [sys.executable, "-S", "-c", "import tools.supply.inventory as i; print(i.__name__)"]
    done = subprocess.run(
        command, cwd=ROOT, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "tools.supply.inventory", done.stderr


# --- known vulnerabilities --------------------------------------------------------------------------------------------


def advisory(name: str, ecosystem: str = "PyPI", **more: Any) -> dict[str, Any]:
    events = more.pop("events", [{"introduced": "0"}, {"fixed": "2.0"}])
    kind = more.pop("kind", "ECOSYSTEM")
    affected = {
        "package": {"name": name, "ecosystem": ecosystem},
        "ranges": [{"type": kind, "events": events}],
        "versions": more.pop("versions", []),
    }
    about = {"id": "TEST-1", "modified": NOW, "summary": "it can be misused", "aliases": ["CVE-1"]}
    return about | {"affected": [affected]} | more


@pytest.fixture
def database(tmp_path: Path) -> Path:
    folder = tmp_path / "osv"
    folder.mkdir()
    return folder


def plant(folder: Path, *advisories: dict[str, Any]) -> Path:
    for number, each in enumerate(advisories):
        (folder / f"{number}.json").write_text(json.dumps(each), encoding="utf-8")
    return folder


SHOP = Component("PyPI", "shop-client", "1.5")


def test_a_planted_advisory_is_found_with_what_mends_it(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert audit.audit([SHOP], plant(database, advisory("Shop_Client"))) == FOUND
    said = capsys.readouterr()
    assert "shop-client 1.5: TEST-1 (CVE-1): it can be misused; fixed in 2.0" in said.out
    assert "make lock" in said.err


def test_nothing_found_is_said_with_what_was_checked(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert audit.audit([SHOP], plant(database, advisory("other"))) == CLEAN
    assert (
        f"1 of PyPI against 1 advisories; the newest is of {NOW[:10]}.\nNo known vulnerability"
        in capsys.readouterr().out
    )


def run_audit(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tools.supply.audit", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("arguments", [(), ("--database", "/nowhere/osv.zip")])
def test_without_a_database_nothing_is_called_clean(arguments: tuple[str, ...]) -> None:
    done = run_audit(*arguments)
    assert done.returncode == NO_DATABASE
    assert done.stderr.startswith("NOT CHECKED: ") and "AUDIT_DB=" in done.stderr
    assert done.stdout == ""


def test_a_database_that_knows_nothing_of_an_ecosystem_is_none(
    database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    jar = Component("Maven", "org.example:shop", "1.0")
    plant(database, advisory("other"))
    assert audit.audit([SHOP, jar], database) == NO_DATABASE
    assert "no advisory about Maven" in capsys.readouterr().err
    assert audit.audit([SHOP], database) == CLEAN
    assert audit.audit([], database) == NO_DATABASE


def test_an_old_database_is_none(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = (datetime.now(UTC) - timedelta(days=40)).isoformat()
    assert audit.audit([SHOP], plant(database, advisory("other", modified=old))) == NO_DATABASE
    assert "40 days old" in capsys.readouterr().err


def test_a_zip_a_folder_of_zips_and_yaml_are_read(database: Path) -> None:
    with zipfile.ZipFile(database / "all.zip", "w") as archive:
        archive.writestr("TEST-1.json", json.dumps(advisory("shop-client")))
    assert audit.audit([SHOP], database / "all.zip") == audit.audit([SHOP], database) == FOUND
    (database / "all.zip").unlink()
    (database / "TEST-1.yaml").write_text(yaml.safe_dump(advisory("shop-client")), encoding="utf-8")
    assert audit.audit([SHOP], database) == FOUND


def test_a_withdrawn_advisory_counts_no_more(database: Path) -> None:
    assert audit.audit([SHOP], plant(database, advisory("shop-client", withdrawn=NOW), advisory("other"))) == CLEAN


def test_what_cannot_be_compared_counts_as_found(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert audit.audit([Component("PyPI", "shop-client", "latest")], plant(database, advisory("shop-client"))) == FOUND
    assert "could not be computed" in capsys.readouterr().out


def test_an_accepted_advisory_counts_until_its_day(
    database: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plant(database, advisory("shop-client"))
    policy = tmp_path / "policy.toml"
    monkeypatch.setattr(audit, "POLICY", policy)
    for day, code in ((date.today(), CLEAN), (date.today() - timedelta(days=2), FOUND)):  # noqa: DTZ011
        policy.write_text(f'[[accepted]]\nid = "CVE-1"\nuntil = {day}\nreason = "never called"\n', encoding="utf-8")
        assert audit.audit([SHOP], database) == code
    assert "never called" in capsys.readouterr().out


def test_the_command_checks_both_locks_whatever_is_installed_here(database: Path) -> None:
    names = {(part.name, part.of) for part in audit.parts_of(only=["PyPI"])}
    assert {("pytest", "laptop and CI"), ("mlflow", "production"), ("async-timeout", "production")} <= names
    mlflow = locked(PRODUCTION)["mlflow"][0].version
    plant(database, advisory("mlflow", events=[{"introduced": "0"}, {"last_affected": mlflow}]))
    done = run_audit("--only", "PyPI", "--database", database)
    assert done.returncode == FOUND, done.stderr
    assert f"mlflow {mlflow} [production]: TEST-1" in done.stdout
    assert run_audit("--only", "Debian", "--database", database).returncode == NO_DATABASE


def test_the_jars_inside_packages_are_checked(here: list[Item], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "jars", lambda: (item for item in here if item["kind"] == "jar"))
    assert "org.apache.spark:spark-core_2.13" in {part.name for part in audit.parts_of(only=["Maven"])}


def test_a_bill_of_materials_is_checked_as_it_is(bom: dict[str, Any], tmp_path: Path, database: Path) -> None:
    file = tmp_path / "sbom.json"
    file.write_text(json.dumps(bom), encoding="utf-8")
    parts = audit.parts_of(file)
    assert Component("Debian:12", "openssl", "3.0.17-1") in parts
    assert len(parts) > 400
    fixed = [{"introduced": "0"}, {"fixed": "3.0.17-1~deb12u3"}]
    plant(
        database,
        advisory("openssl", "Debian:12", events=[{"introduced": "0"}, {"fixed": "3.0.18-1"}]),
        advisory("openssl", "Debian:13", events=fixed),
        advisory("other", "PyPI"),
        advisory("x:other", "Maven"),
    )
    assert audit.audit(parts, database) == FOUND
    plant(database, advisory("openssl", "Debian:12", events=fixed))  # ~ is before the version without it
    assert audit.audit(parts, database) == CLEAN


def test_a_jar_without_a_group_is_compared_by_its_name(database: Path) -> None:
    plant(database, advisory("org.example:shop", "Maven"))
    assert audit.audit([Component("Maven", "shop", "1.0")], database) == FOUND
    assert audit.audit([Component("Maven", "com.other:shop", "1.0")], database) == CLEAN


@pytest.mark.parametrize(
    ("events", "inside", "outside"),
    [
        ([{"introduced": "0"}, {"fixed": "2.0"}], ["0.1", "2.0rc1", "1.9.post1"], ["2.0", "2.0.0", "3"]),
        ([{"introduced": "1.1"}, {"last_affected": "1.5"}], ["1.1", "1.5"], ["1.0", "1.5.1"]),
        (
            [{"fixed": "3.1"}, {"introduced": "0"}, {"fixed": "1.2"}, {"introduced": "3.0"}],
            ["1.1", "3.0"],
            ["2", "3.1"],
        ),
        ([{"introduced": "1"}], ["1", "99"], ["0.9"]),
    ],
)
def test_ranges_are_read_as_osv_s_schema_says(events: list[Any], inside: list[str], outside: list[str]) -> None:
    affected = advisory("x", events=events)["affected"][0]
    for version in (*inside, *outside):
        assert audit.is_vulnerable(Component("PyPI", "x", version), affected) == (version in inside), version


def test_listed_versions_count_without_a_range_and_commits_do_not() -> None:
    affected = advisory("x", kind="GIT", events=[{"introduced": "0"}], versions=["1.5"])["affected"][0]
    assert audit.is_vulnerable(Component("PyPI", "x", "1.5"), affected)
    assert not audit.is_vulnerable(Component("PyPI", "x", "1.6"), affected)


@pytest.mark.parametrize(
    ("ecosystem", "rising"),
    [
        ("PyPI", "1.0.dev1 1.0a1 1.0rc1 1.0 1.0.post1 1.1 1.10"),
        # the examples of Maven's reference
        ("Maven", "1-alpha-1 1-beta 1-milestone 1-rc1 1-snapshot 1 1-sp 1-jre 1-1 1.0.1 1.1 1.10 2"),
        # those of deb-version(7)
        ("Debian", "1.0~~ 1.0~~a 1.0~ 1.0~rc1-1 1.0-1 1.0-1+deb12u1 1.0-1+deb12u10 1.0-2 1.0a-1 1.0+b-1 1.1-1 1:0.1-1"),
    ],
)
def test_versions_have_the_order_of_their_ecosystem(ecosystem: str, rising: str) -> None:
    order, versions = ORDER[ecosystem], rising.split()
    for lower, higher in pairwise(versions):
        assert order(lower) < order(higher), (lower, higher)


def test_versions_that_are_written_differently_are_equal() -> None:
    assert ORDER["Maven"]("1.0.0") == ORDER["Maven"]("1") == ORDER["Maven"]("1.0.Final")
    assert ORDER["Maven"]("1.0.0-rc1") == ORDER["Maven"]("1-rc1")
    assert ORDER["Debian"]("1.0-0") == ORDER["Debian"]("0:1.0")
    with pytest.raises(Unordered):
        ORDER["PyPI"]("not a version")


# --- licences ---------------------------------------------------------------------------------------------------------

POLICY = Policy(
    allowed={"MIT": "", "Apache-2.0": ""},
    exceptions={"shop": {"licence": "LGPL-3.0-only", "reason": "unchanged"}},
    names={"MIT License": "MIT"},
    looked_up={"shy": {"licence": "MIT", "where": "its licence file"}},
)


@pytest.mark.parametrize(
    ("name", "licence", "fault"),
    [
        ("a", "MIT", None),
        ("a", "MIT AND Apache-2.0", None),
        ("a", "MIT OR GPL-3.0-only", None),
        ("a", "MIT AND (Apache-2.0 OR GPL-2.0-only)", None),
        ("a", "GPL-3.0-only", "nobody decided on"),
        ("a", "MIT AND GPL-3.0-only", "nobody decided on"),
        ("a", "Some Licence of Its Own", "nobody decided on"),
        ("a", "unknown", "does not say its licence"),
        ("shop", "LGPL-3.0-only", None),
        ("shop", "AGPL-3.0-only", "is now AGPL"),
    ],
)
def test_a_licence_is_allowed_only_by_a_decision(name: str, licence: str, fault: str | None) -> None:
    problem = POLICY.problem(name, licence)
    assert problem is None if fault is None else fault in str(problem)


def test_a_decision_that_nothing_needs_is_named() -> None:
    assert list(licences.problems({"shop": "LGPL-3.0-only"}, POLICY)) == [
        "shy is in policy.toml, but in no lock. Remove it there"
    ]


def test_metadata_is_read_as_spdx() -> None:
    assert POLICY.licence(Item(kind="python", name="a", version="1", licence="MIT License")) == "MIT"
    assert POLICY.licence(Item(kind="python", name="shy", version="1", licence="")) == "MIT"
    assert POLICY.licence(Item(kind="python", name="a", version="1", licence="")) == ""


def test_every_dependency_has_a_licence_that_was_decided_on() -> None:
    policy = Policy.load()
    found = licences.licences(policy)
    assert len(found) > 250
    assert list(licences.problems(found, policy)) == []
    assert licences.PAGE.read_text(encoding="utf-8") == licences.page(found, policy)


def test_copyleft_is_an_exception_with_a_reason() -> None:
    policy = Policy.load()
    assert not [licence for licence in policy.allowed if "GPL" in licence]
    for each in policy.exceptions.values():
        assert len(each["reason"]) > 10


def test_the_product_s_own_licence_is_in_the_wheel() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text and "Version 2.0, January 2004" in text and "END OF TERMS AND CONDITIONS" in text
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (project["license"], project["license-files"]) == ("Apache-2.0", ["LICENSE"])
    plugins = tomllib.loads((ROOT / "plugins/pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert plugins["license"] == "Apache-2.0"


# --- images -----------------------------------------------------------------------------------------------------------

DIGEST, OTHER = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"


def test_every_image_from_a_registry_has_a_digest() -> None:
    texts = {path.name: path.read_text(encoding="utf-8") for path in images.FILES}
    assert list(images.problems(texts)) == []
    named = {name: [image.partition("@")[0] for image in images.images(text)] for name, text in texts.items()}
    compose = yaml.safe_load(texts["docker-compose.yaml"])
    asked = {service["image"] for service in compose["services"].values()} - {"${NIGHTLY_IMAGE:-nightly-ml:latest}"}
    assert len(named["docker-compose.yaml"]) == len(asked) + 1  # and the base of the image that is built
    assert named["Dockerfile"] == ["debian:bookworm-slim"]
    assert set(named[".env.example"]) == set(named["docker-compose.yaml"])


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("image: redis:7.2\n", "redis:7.2 has no digest"),
        ("FROM debian:bookworm-slim\n", "has no digest"),
        ("image: ${REDIS_IMAGE:-redis:7.2}\n", "has no digest"),
        ("REDIS_IMAGE=redis:7.2\n", "has no digest"),
        ("image: redis:7.2@sha256:abc\n", "has no digest"),
        (f"image: redis:7.2@{DIGEST}\nREDIS_IMAGE=redis:7.2@{OTHER}\n", "another digest"),
    ],
)
def test_an_image_without_a_digest_is_refused(text: str, fault: str) -> None:
    found = list(images.problems({"file": text}))
    assert len(found) == 1 and fault in found[0]


def test_what_is_built_here_needs_no_digest() -> None:
    text = f"image: ${{NIGHTLY_IMAGE:-nightly-ml:latest}}\nFROM base AS packages\nimage: redis:7.2@{DIGEST}\n"
    assert list(images.problems({"file": text})) == []


@pytest.fixture
def pinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Copies of the files, and a `docker` that knows a digest for each image."""
    docker = tmp_path / "bin" / "docker"
    docker.parent.mkdir()
    docker.write_text(
        f'#!/bin/sh\necho "$*" >>{tmp_path}/asked\n[ ! -e {tmp_path}/down ] || {{ echo "no route" >&2; exit 1; }}\n'
        f"echo {DIGEST}\n",
        encoding="utf-8",
    )
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", str(docker.parent), prepend=":")
    copies = [tmp_path / path.name for path in images.FILES]
    for path, copy in zip(images.FILES, copies, strict=True):
        copy.write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setattr(images, "FILES", copies)
    monkeypatch.setattr(sys, "argv", ["images"])
    return copies


def test_pin_images_writes_what_the_registries_say(pinned: list[Path], tmp_path: Path) -> None:
    before = {path: path.read_text(encoding="utf-8") for path in pinned}
    assert images.main() == 0
    for path in pinned:
        text = path.read_text(encoding="utf-8")
        assert {image.partition("@")[2] for image in images.images(text)} == {DIGEST}
        assert images.DIGEST.sub("", text) == images.DIGEST.sub("", before[path])
    asked = (tmp_path / "asked").read_text(encoding="utf-8").splitlines()
    assert len(asked) == len(set(asked)) == 4
    assert all("@" not in line for line in asked), "it asks for the tag, not for the digest that it knows already"


def test_pin_images_changes_nothing_when_a_registry_does_not_answer(pinned: list[Path], tmp_path: Path) -> None:
    before = [path.read_text(encoding="utf-8") for path in pinned]
    (tmp_path / "down").touch()
    with pytest.raises(SystemExit, match=r"no route.*No file was changed"):
        images.main()
    assert [path.read_text(encoding="utf-8") for path in pinned] == before
