from pathlib import Path

import pytest

from include.core.code import code_digest

CODE = 'def double(x):\n    """Return twice x."""\n    return x * 2\n'


def digest_of(tmp_path: Path, text: str) -> str:
    path = tmp_path / "code.py"
    path.write_text(text, encoding="utf-8")
    return code_digest([path])


@pytest.mark.parametrize(
    "same",
    [
        "def double(x):\n    return x * 2\n",
        'def double(x):\n    """Another docstring."""\n    return x * 2\n',
        '"""A module."""\n\n\ndef double(x):\n    # a comment\n    return (\n        x * 2\n    )  # another\n',
    ],
)
def test_comments_docstrings_and_line_breaks_keep_the_digest(tmp_path: Path, same: str) -> None:
    assert digest_of(tmp_path, same) == digest_of(tmp_path, CODE)


@pytest.mark.parametrize("old_and_new", [("x * 2", "x * 3"), ("x * 2", "x + 2"), ("double(x)", "double(x, y=1)")])
def test_code_changes_the_digest(tmp_path: Path, old_and_new: tuple[str, str]) -> None:
    assert digest_of(tmp_path, CODE.replace(*old_and_new)) != digest_of(tmp_path, CODE)


def test_a_changed_string_value_changes_the_digest(tmp_path: Path) -> None:
    assert digest_of(tmp_path, 'WORD = "a"\n') != digest_of(tmp_path, 'WORD = "b"\n')
