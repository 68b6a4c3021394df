"""The reference of the YAML files: each key has a description, and the editors' schema agrees with the loader."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from include.config.loading import PROJECTS
from include.core.yaml_file import read_yaml
from tools import generated, reference


def schema_of(path: Path) -> dict[str, Any]:
    """Return the schema that the first line of a YAML file names."""
    first = path.read_text(encoding="utf-8").splitlines()[0]
    named = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", first)
    assert named, f"{path}: the first line names no schema for editors"
    found = (path.parent / named[1]).resolve()
    assert found == reference.SCHEMAS / f"{path.stem}.json"
    schema: dict[str, Any] = json.loads(found.read_text(encoding="utf-8"))
    return schema


def as_json(path: Path) -> Any:
    return json.loads(json.dumps(read_yaml(path), default=str))  # JSON has no dates


def keys() -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Yield name, declaration and schema of each key."""
    for name in ("project", "model", "expectations"):
        schema = json.loads((reference.SCHEMAS / f"{name}.json").read_text(encoding="utf-8"))
        sections = {f"{name}.yaml": schema, **schema["$defs"]}
        for section in sections:
            for key, declared in sections[section].get("properties", {}).items():
                yield f"{section}: {key}", declared, schema


@pytest.mark.parametrize(("name", "declared", "schema"), [pytest.param(*key, id=key[0]) for key in keys()])
def test_each_key_has_a_description_and_an_example_or_a_default(
    name: str, declared: dict[str, Any], schema: dict[str, Any]
) -> None:
    if "const" in declared:  # the kind of a variant
        return
    assert declared.get("description"), f"{name}: add a description to the pydantic field"
    if declared.get("default") is None and "$ref" not in json.dumps(
        declared
    ):  # keys of a section have examples of their own
        assert declared.get("examples"), f"{name}: add an example to the pydantic field"
    for example in declared.get("examples", []):
        Draft202012Validator({**declared, "$defs": schema["$defs"]}).validate(example)


@pytest.mark.parametrize("path", sorted(PROJECTS.rglob("*.yaml")), ids=lambda path: str(path.relative_to(PROJECTS)))
def test_the_schema_accepts_a_file_that_loads(path: Path) -> None:
    Draft202012Validator(schema_of(path)).validate(as_json(path))


@pytest.mark.parametrize(
    ("kind", "wrong"), [("project", {"tittle": "x"}), ("model", {"train_days": 1}), ("expectations", {"a": [{}]})]
)
def test_the_schema_refuses_a_wrong_file(kind: str, wrong: dict[str, Any]) -> None:
    validator = Draft202012Validator(json.loads((reference.SCHEMAS / f"{kind}.json").read_text(encoding="utf-8")))
    assert not validator.is_valid(wrong)


class TestGenerated:
    @pytest.fixture
    def page(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setattr(generated, "ROOT", tmp_path)
        return tmp_path / "docs" / "page.md"

    def run(self, monkeypatch: pytest.MonkeyPatch, page: Path, text: str, *options: str) -> int:
        monkeypatch.setattr("sys.argv", ["generator", *options])
        return generated.write_or_check({page: text})

    def test_a_missing_or_outdated_page_is_written(self, page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for text in ("first\n", "second\n"):
            assert self.run(monkeypatch, page, text) == 0
            assert page.read_text(encoding="utf-8") == text

    def test_check_refuses_an_outdated_page_and_writes_nothing(
        self, page: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert self.run(monkeypatch, page, "first\n", "--check") == 1
        assert not page.exists()
        self.run(monkeypatch, page, "first\n")
        assert self.run(monkeypatch, page, "first\n", "--check") == 0
        assert self.run(monkeypatch, page, "second\n", "--check") == 1
        assert page.read_text(encoding="utf-8") == "first\n"
        said = capsys.readouterr().err
        assert "-first\n+second\n" in said
        assert "docs/page.md is out of date. Run: make docs" in said
