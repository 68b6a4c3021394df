"""tools/need names the missing packages of each distribution, and finds the Python to use."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tools.stack import ROOT

RELEASES = {  # the content of /etc/os-release
    "debian 12": ('PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"', "ID=debian", "VERSION_CODENAME=bookworm"),
    "debian 13": ('PRETTY_NAME="Debian GNU/Linux 13 (trixie)"', "ID=debian", "VERSION_CODENAME=trixie"),
    "ubuntu 22.04": ('PRETTY_NAME="Ubuntu 22.04.5 LTS"', "ID=ubuntu", "ID_LIKE=debian", "UBUNTU_CODENAME=jammy"),
    "ubuntu 24.04": ('PRETTY_NAME="Ubuntu 24.04.3 LTS"', "ID=ubuntu", "ID_LIKE=debian", "VERSION_CODENAME=noble"),
    "mint": ('PRETTY_NAME="Linux Mint 22.1"', "ID=linuxmint", "VERSION_CODENAME=xia", "UBUNTU_CODENAME=noble"),
    "fedora": ('PRETTY_NAME="Fedora Linux 42 (Server Edition)"', "ID=fedora", 'VERSION_CODENAME=""'),
    "arch": ('PRETTY_NAME="Arch Linux"', "ID=arch"),
}
PACKAGES = {
    "debian 12": ("apt-get", "python3.11 python3.11-venv", "openjdk-17-jre-headless", "maven", "chromium"),
    "debian 13": ("apt-get", "python3.13 python3.13-venv", "openjdk-21-jre-headless", "maven", "chromium"),
    "ubuntu 22.04": ("apt-get", "python3.11 python3.11-venv", "openjdk-17-jre-headless", "maven"),
    "ubuntu 24.04": ("apt-get", "python3.12 python3.12-venv", "openjdk-21-jre-headless", "maven"),
    "mint": ("apt-get", "python3.12 python3.12-venv", "openjdk-21-jre-headless", "maven", "chromium"),
    "fedora": ("dnf", "python3.13", "java-21-openjdk-headless", "maven", "chromium"),
    "macos": ("brew", "python@3.13", "openjdk@21", "maven", "google-chrome"),
}
PROGRAMS = ("python", "java", "maven", "browser")


class Machine:
    """A fake machine that has only a shell until programs are installed."""

    def __init__(self, folder: Path, system: str) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.bin.mkdir(parents=True)
        self.bin.joinpath("grep").symlink_to(shutil.which("grep") or "")
        self.install("uname", f"echo {'Darwin' if system == 'macos' else 'Linux'}")
        self.release = folder / "os-release"
        if system in RELEASES:
            self.release.write_text("\n".join(RELEASES[system]), encoding="utf-8")

    def install(self, name: str, script: str, folder: str = "bin") -> Path:
        program = self.folder / folder / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        program.chmod(0o755)
        return program

    def install_python(self, version: str, name: str | None = None, folder: str = "bin") -> Path:
        """Install a fake Python that answers what `tools/need` checks."""
        major, minor = version.split(".")
        script = (
            f"shift; exec {sys.executable} -c \"import sys; sys.version_info = ({major}, {minor}, 0, 'final', 0); $1\""
        )
        return self.install(name or f"python{version}", script, folder)

    def need(self, *arguments: str, **variables: str) -> tuple[int, str, str]:
        environment = {"PATH": str(self.bin), "HOME": str(self.folder), "OS_RELEASE": str(self.release), **variables}
        done = subprocess.run(
            ["/bin/sh", str(ROOT / "tools" / "need"), *arguments],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout.strip(), done.stderr.strip()


@pytest.mark.parametrize("system", PACKAGES)
def test_a_bare_machine_gets_the_package_names_of_its_distribution(tmp_path: Path, system: str) -> None:
    machine = Machine(tmp_path, system)
    tool, *packages = PACKAGES[system]
    programs = PROGRAMS[: len(packages)]
    code, out, errors = machine.need(*programs)
    assert (code, out) == (1, "")
    lines = errors.splitlines()
    assert [line.split(" is missing. ")[0].split(" (")[0] for line in lines] == [
        "Python 3.11, 3.12 or 3.13 with ensurepip",
        "Java 17 or 21",
        "Maven",
        "A browser",
    ][: len(packages)]
    for line, names in zip(lines, packages, strict=True):
        assert f": {tool} install {names}" in line
    if system in RELEASES:
        assert RELEASES[system][0].split('"')[1] in lines[0], "the output must name the detected distribution"
    assert machine.need("--packages", *programs) == (0, "\n".join(packages), "")


def test_a_mac_gets_the_command_that_makes_java_visible(tmp_path: Path) -> None:
    _, _, errors = Machine(tmp_path, "macos").need("java")
    assert errors.endswith('brew install openjdk@21. Then: export JAVA_HOME="$(brew --prefix openjdk@21)"')


@pytest.mark.parametrize("system", ["arch", "a system without os-release"])
def test_for_another_distribution_no_package_is_guessed(tmp_path: Path, system: str) -> None:
    machine = Machine(tmp_path, system)
    name = "Arch Linux" if system == "arch" else "this system"
    for arguments in (PROGRAMS, ("--packages", *PROGRAMS)):
        code, out, errors = machine.need(*arguments)
        assert (code, out) == (1, "")
        assert errors.count(f"The packages of {name} are not known here") == 4


def test_a_complete_machine_prints_only_its_python(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "debian 13")
    machine.install_python("3.13")
    machine.install("java", "echo 'openjdk version \"21.0.9\" 2025-10-21' >&2")
    machine.install("mvn", "")
    machine.install("chromium", "")
    assert machine.need(*PROGRAMS) == (0, "python3.13\nchromium", "")
    assert machine.need("--packages", *PROGRAMS) == (0, "", "")


def test_ubuntu_gets_no_browser_from_its_own_packages(tmp_path: Path) -> None:
    """They have only a command that says that Chromium is a snap."""
    machine = Machine(tmp_path, "ubuntu 24.04")
    machine.install("chromium-browser", "echo 'requires the chromium snap' >&2; exit 1")
    for arguments in (("browser",), ("--packages", "browser")):
        code, out, errors = machine.need(*arguments)
        assert (code, out) == (1, "")
        assert "google-chrome-stable" in errors
    machine.install("google-chrome", "")
    assert machine.need("browser") == (0, "google-chrome", "")
    assert machine.need("--packages", "browser") == (0, "", "")


@pytest.mark.parametrize(
    ("system", "packages"),
    [
        ("debian 12", "apt-get install libpango-1.0-0 libpangoft2-1.0-0 fonts-dejavu-core"),
        ("fedora", "dnf install pango dejavu-sans-fonts"),
        ("macos", "brew install pango"),
    ],
)
def test_what_makes_pdfs_is_named_where_it_is_missing(tmp_path: Path, system: str, packages: str) -> None:
    machine, folder = Machine(tmp_path, system), tmp_path / "lib"
    code, _, errors = machine.need("pango", PANGO_FOLDERS=str(folder))
    assert code == 1 and errors.endswith(packages)
    folder.mkdir()
    folder.joinpath("libpangoft2-1.0.so.0").touch()
    assert machine.need("pango", PANGO_FOLDERS=str(folder)) == (0, "", "")


@pytest.mark.parametrize("version", ["1.8.0_412", "11.0.25", "25", "25.0.1", "170.0"])
def test_only_java_17_and_21_are_accepted(tmp_path: Path, version: str) -> None:
    machine = Machine(tmp_path, "debian 12")
    machine.install("java", f"echo 'openjdk version \"{version}\"' >&2")
    code, _, errors = machine.need("java")
    assert code == 1
    assert "openjdk-17-jre-headless" in errors
    assert "set JAVA_HOME" in errors
    machine.install("java", "echo 'openjdk version \"17\" 2021-09-14' >&2", "jvm/bin")
    assert machine.need("java", JAVA_HOME=str(tmp_path / "jvm"))[0] == 0


def test_the_first_supported_python_is_used(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "debian 12")
    for version in ("3.9", "3.14", "3.13", "3.12"):
        machine.install_python(version)
    assert machine.need("python")[1] == "python3.12"
    machine.install("python3.11", "exit 127")  # pyenv does this for a version that is not selected
    assert machine.need("python")[1] == "python3.12"


def test_pyenv_is_searched_after_the_path(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "debian 12")
    held = machine.install_python("3.11", folder=".pyenv/versions/3.11.7/bin")
    assert machine.need("python")[1] == str(held)
    assert machine.need("python", PYENV_ROOT=str(tmp_path / "elsewhere"))[0] == 1
    machine.install_python("3.12")
    assert machine.need("python")[1] == "python3.12"


def test_the_python_variable_selects_the_python(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "debian 12")
    for version in ("3.9", "3.11", "3.13"):
        machine.install_python(version)
    assert machine.need("python", PYTHON="python3.13")[1] == "python3.13"
    for wrong in ("python3.9", "python3.12"):
        code, out, errors = machine.need("python", PYTHON=wrong)
        assert (code, out) == (1, "")
        assert errors.startswith(f"PYTHON={wrong} is not a Python 3.11, 3.12 or 3.13 with ensurepip.")


def test_an_environment_keeps_its_python_unless_another_is_selected(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "debian 12")
    machine.install_python("3.11")
    machine.install_python("3.12")
    kept = machine.install_python("3.13", "python", folder=".venv/bin")
    environment = str(tmp_path / ".venv")
    assert machine.need("python", VENV=environment)[1] == str(kept)
    assert machine.need("python", VENV=environment, PYTHON="python3.12")[1] == "python3.12"
    machine.install_python("3.10", "python", folder=".venv/bin")
    assert machine.need("python", VENV=environment)[1] == "python3.11"


def test_a_python_that_cannot_make_environments_is_not_used(tmp_path: Path) -> None:
    """On Debian, this is a Python without the package python3.11-venv."""
    machine = Machine(tmp_path, "debian 12")
    machine.install("python3.11", "echo \"ModuleNotFoundError: No module named 'ensurepip'\" >&2; exit 1")
    code, _, errors = machine.need("python")
    assert code == 1
    assert errors.endswith("apt-get install python3.11 python3.11-venv")


def test_a_wrong_argument_is_refused(tmp_path: Path) -> None:
    code, _, errors = Machine(tmp_path, "debian 12").need("pyhton")
    assert code == 2
    assert "pyhton is not one of python, java, maven, odbc, browser, pango" in errors
    assert os.access(ROOT / "tools" / "need", os.X_OK)
