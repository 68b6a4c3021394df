"""Digests of code that decides results. They cover what the code does, not how it is formatted."""

import ast
import hashlib
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any


def code_digest(sources: Iterable[ModuleType | Path]) -> str:
    """Return the sha256 (hex) of the syntax trees of Python files.

    Comments, docstrings, blank lines and the way lines are broken do not count; everything that runs does. The digest
    is the same on every Python that can parse the files.

    Args:
        sources: modules, or paths of files, in the order in which they count.
    """
    digest = hashlib.sha256()
    for source in sources:
        path = Path(str(source.__file__)) if isinstance(source, ModuleType) else source
        digest.update(repr(_normalised(ast.parse(path.read_text(encoding="utf-8")))).encode())
    return digest.hexdigest()


def code_without_words(source: Path) -> str:
    """Return the code of a Python file without comments and docstrings, in the form that Python gives it."""
    tree = ast.parse(source.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [each for each in node.body if not _is_text(each)] or [ast.Pass()]
    return ast.unparse(tree)


def _normalised(node: Any) -> Any:
    """Return the tree as nested tuples. Fields without a value are left out, since newer Pythons add such fields."""
    if isinstance(node, list):
        return [_normalised(each) for each in node]
    if not isinstance(node, ast.AST):
        return node
    fields = dict(ast.iter_fields(node))
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        fields["body"] = [each for each in node.body if not _is_text(each)]
    return type(node).__name__, [
        (name, _normalised(value)) for name, value in fields.items() if value not in (None, [])
    ]


def _is_text(statement: ast.stmt) -> bool:
    """Return whether a statement is a bare string: the docstring of a module, class, function or constant."""
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )
