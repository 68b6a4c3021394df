"""When the folder of DAG files has them parsed."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from nightly_bundle import FolderBundle

Asks = Callable[[], bool]
YAML = "include/projects/ferries/project.yaml"


@pytest.fixture
def asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Asks:
    """Return what refreshes a bundle in `bundle`, and says whether that requested parsing."""
    for name in ("bundle/dags/prepare.py", f"bundle/{YAML}", "bundle/README.md", "teams/shop/project.yaml"):
        write(tmp_path / name, "as it was")
    monkeypatch.setenv("NIGHTLY_PROJECTS", f"../teams{os.pathsep}{tmp_path / 'others'}")
    bundle = FolderBundle(name="nightly-ml", path=str(tmp_path / "bundle"), refresh_interval=1)
    requests: list[None] = []
    monkeypatch.setattr(bundle, "_request_parsing", lambda: requests.append(None))

    def refresh() -> bool:
        before = len(requests)
        bundle.refresh()
        return len(requests) > before

    assert not refresh(), "Airflow parses all files at its start"
    return refresh


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    "changed", [f"bundle/{YAML}", "bundle/include/new.py", "teams/shop/project.yaml", "others/x/y"]
)
def test_a_change_is_noticed_once(changed: str, asks: Asks, tmp_path: Path) -> None:
    assert not asks()
    write(tmp_path / changed, "as it is now")
    assert asks()
    assert not asks()


def test_a_file_that_was_removed_is_noticed(asks: Asks, tmp_path: Path) -> None:
    (tmp_path / "bundle" / YAML).unlink()
    assert asks()


def test_a_copy_that_keeps_time_and_size_is_noticed(asks: Asks, tmp_path: Path) -> None:
    file = tmp_path / "bundle" / YAML
    before = file.stat()
    write(file, "AS IT WAS")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert asks()


def test_a_link_to_another_folder_is_noticed(asks: Asks, tmp_path: Path) -> None:
    """Kubernetes mounts files so: a link to a link, of which only the last changes."""
    for name in ("first", "second"):
        write(tmp_path / name / "model.yaml", name)
    hidden = tmp_path / "bundle/include/projects/..data"
    hidden.symlink_to(tmp_path / "first")
    (hidden.parent / "model.yaml").symlink_to(Path("..data") / "model.yaml")
    assert asks()
    hidden.unlink()
    hidden.symlink_to(tmp_path / "second")
    assert asks()


@pytest.mark.parametrize("other", ["README.md", "include/__pycache__/x.pyc", "include/projects/.git/index"])
def test_files_that_no_dag_file_reads_are_left_alone(other: str, asks: Asks, tmp_path: Path) -> None:
    write(tmp_path / "bundle" / other, "as it is now")
    assert not asks()


def test_a_request_that_fails_is_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "bundle" / YAML, "as it was")
    bundle = FolderBundle(name="nightly-ml", path=str(tmp_path / "bundle"))
    bundle.refresh()
    write(tmp_path / "bundle" / YAML, "as it is now")
    requests: list[bool] = []

    def request() -> None:
        requests.append(True)
        if len(requests) == 1:
            raise ConnectionError("the database is down")

    monkeypatch.setattr(bundle, "_request_parsing", request)
    with pytest.raises(ConnectionError):
        bundle.refresh()
    bundle.refresh()
    bundle.refresh()
    assert len(requests) == 2
