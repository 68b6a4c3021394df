"""The wheel requires the versions that requirements.txt locks, for each Python that it supports."""

import hashlib
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from tools import wheel
from tools.stack import ROOT
from tools.supply.lock import PRODUCTION, locked, needed_for, normalised

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


def test_what_databricks_installs_has_hashes_for_the_wheel_and_everything_it_needs(tmp_path: Path) -> None:
    made = tmp_path / "nightly_ml-0.1.0-py3-none-any.whl"
    made.write_bytes(b"wheel")
    text = wheel.hashed_requirements("HEAD", made, f"/Volumes/main/nightly/wheels/{made.name}")
    entries = text.replace("\\\n", " ").splitlines()
    assert all(" --hash=sha256:" in entry for entry in entries)
    assert entries[-1].split() == [
        f"/Volumes/main/nightly/wheels/{made.name}",
        f"--hash=sha256:{hashlib.sha256(b'wheel').hexdigest()}",
    ]
    names = {entry.split("==")[0].split("[")[0] for entry in entries[:-1]}
    assert {"mlflow", "mlflow-skinny", "numpy", "polars-runtime-32", "s3fs", "skops"} < names
    assert not names & {"apache-airflow", "pyspark", "pytest"}  # Databricks has its own Spark


def test_the_list_for_databricks_is_complete() -> None:
    """pip with hashes refuses a package that the list lacks, so compare with what the packages themselves require."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    names = set(needed_for(declared, locked(PRODUCTION)))
    for name in sorted(names):
        try:
            requirements = map(Requirement, distribution(name).requires or ())
        except PackageNotFoundError:
            continue  # for another system
        missing = {r.name for r in requirements if r.marker is None or r.marker.evaluate({"extra": ""})}
        assert {normalised(each) for each in missing} <= names, name
