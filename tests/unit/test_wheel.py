"""The wheel requires the versions that requirements.txt locks, for each Python that it supports."""

import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from tools import wheel
from tools.stack import ROOT

DECLARED = """
[project]
dependencies = [
    "numpy",
    "mlflow",
    "s3fs",
]
"""
LOCK = r"""
mlflow-skinny==3.17.2 \
    --hash=sha256:01
    # via mlflow
mlflow==3.17.2 \
    --hash=sha256:02 \
    --hash=sha256:03
    # via -r requirements.in
numpy==2.4.6 ; python_full_version < '3.13' \
    --hash=sha256:04
numpy==2.5.0 ; python_full_version >= '3.13' \
    --hash=sha256:05
s3fs[boto3]==2026.9.0
"""


def test_versions_come_from_the_lock_with_their_markers(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(DECLARED, encoding="utf-8")
    (tmp_path / "requirements.txt").write_text(LOCK, encoding="utf-8")
    assert wheel._locked(tmp_path) == {
        "numpy": ["numpy==2.4.6 ; python_full_version < '3.13'", "numpy==2.5.0 ; python_full_version >= '3.13'"],
        "mlflow": ["mlflow==3.17.2"],
        "s3fs": ["s3fs[boto3]==2026.9.0"],
    }


def test_packages_that_only_make_example_data_are_left_out(tmp_path: Path) -> None:
    made, kept = ("include/operations/simulate.py", "include/projects/shop/simulate.py"), "include/operations/check.py"
    for name in (*made, kept):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    wheel._leave_out_example_data(tmp_path)
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.py")] == [kept]


def test_the_lock_has_one_version_of_each_dependency_for_each_python() -> None:
    locked = wheel._locked(ROOT)
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert sorted(locked) == sorted(declared["dependencies"])
    for python in ("3.11", "3.12", "3.13"):
        assert python in SpecifierSet(declared["requires-python"])
        here = {"python_version": python, "python_full_version": f"{python}.1"}
        for name, lines in locked.items():
            fit = [r for r in map(Requirement, lines) if r.marker is None or r.marker.evaluate(here)]
            assert [str(r.specifier).startswith("==") for r in fit] == [True], f"{name} on Python {python}: {lines}"
