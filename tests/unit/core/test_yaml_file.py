"""YAML files: how values are read, which files are refused, and which line a message names."""

import os
import re
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from include.core.errors import ConfigError
from include.core.yaml_file import key_error, place, read_yaml

NESTED = """\
title: Shop
feeds:
  sales:
    key: [shop, till]
    columns:
      till: {type: string, class: public}
rules:
  - metric: mae
    days: 3
  - {metric: r2, days: 9}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "some.yaml"


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("10:30", "10:30"),  # YAML 1.1 reads 630
        ('"10:30"', "10:30"),
        ("NO", "NO"),  # YAML 1.1 reads false instead of the country code of Norway
        ("on", "on"),
        ("true", True),
        ("010", 10),  # YAML 1.1 reads 8
        ("0o10", 8),
        ("1e-3", 0.001),  # YAML 1.1 reads text
        ("2013-01-01", date(2013, 1, 1)),
        ("~", None),
    ],
)
def test_a_value_is_read_as_yaml_1_2(path: Path, written: str, value: Any) -> None:
    path.write_text(f"key: {written}\n", encoding="utf-8")
    read = read_yaml(path)["key"]
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: 2\na: 3\n", 'line 3: not YAML: found duplicate key "a"'),
        ("a: 1\nb: !!python/object/apply:os.getcwd []\n", "line 2: not YAML: could not determine a constructor"),
        ("a: 1\n---\nb: 2\n", "not YAML: but found another document"),
        ("a: 1\n\tb: 2\n", "line 2: not YAML: "),
        ("a: \0\n", "not YAML: "),
        ("- a\n", "must be a mapping of keys"),
    ],
)
def test_an_invalid_file_is_refused(path: Path, text: str, said: str) -> None:
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        read_yaml(path)
    assert str(caught.value).startswith(str(path))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ("title", 1),
        ("feeds.sales.key", 4),
        ("feeds.sales.key.1", 4),
        ("feeds.sales.columns.till.type", 6),
        ("rules.0.days", 9),
        ("rules.1.days", 10),
        ("feeds.sales.path", 3),  # a missing key has the line of its section
        ("rules.1.absent.days", 10),  # pydantic puts the kind of a variant between
    ],
)
def test_a_key_is_found_at_its_line(path: Path, keys: str, line: int) -> None:
    path.write_text(NESTED, encoding="utf-8")
    assert place(path, *keys.split(".")) == f"{path}, line {line}"


def test_a_message_names_file_line_and_key(path: Path) -> None:
    path.write_text(NESTED, encoding="utf-8")
    error = key_error(path, "rules.0.days: too many", "feeds.sales: key: no column 'shop'", "owner: Field required")
    assert str(error).splitlines() == [
        f"{path}, line 9: rules.0.days: too many",
        f"{path}, line 4: feeds.sales: key: no column 'shop'",
        f"{path}: owner: Field required",
    ]


def test_who_changes_what_was_read_changes_it_for_nobody_else(path: Path) -> None:
    path.write_text(NESTED, encoding="utf-8")
    read_yaml(path)["feeds"]["sales"]["key"].clear()
    assert read_yaml(path)["feeds"]["sales"]["key"] == ["shop", "till"]


def test_a_file_that_changed_is_read_again(path: Path) -> None:
    path.write_text(NESTED, encoding="utf-8")
    times = path.stat()
    assert read_yaml(path)["title"] == "Shop"
    path.write_text(NESTED.replace("Shop", "Till"), encoding="utf-8")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert read_yaml(path)["title"] == "Till"


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("first_day: 2013-02-30", "a value cannot be read: day is out of range for month"),
        ("at: 2013-02-03T25:00:00", "a value cannot be read: hour must be in 0..23"),
        ("same: !!bool x", "a value cannot be read: 'x'"),
        ("self: &a [*a]", "nested too deeply, or contains itself"),
        (f"deep: {'[' * 3000}{']' * 3000}", "nested too deeply, or contains itself"),
    ],
)
def test_a_value_that_cannot_be_read_names_the_file(written: str, said: str, path: Path) -> None:
    path.write_text(written, encoding="utf-8")
    with pytest.raises(ConfigError, match=f"{re.escape(str(path))}: (is )?{re.escape(said)}"):
        read_yaml(path)


def test_a_value_with_many_aliases_is_copied_once(path: Path) -> None:
    levels = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    path.write_text("\n".join(["a0: &a0 [1]", *levels]), encoding="utf-8")
    found = read_yaml(path)
    assert found["a11"][0][9] is found["a10"][1]
