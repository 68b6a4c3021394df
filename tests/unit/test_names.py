"""Two classes never share a name, so that a reader who searches for one finds one."""

import ast
from collections import defaultdict

from tools.stack import ROOT

FOLDERS = ("include", "dags", "plugins", "tools", "bench")


def test_no_two_classes_share_a_name() -> None:
    places = defaultdict(list)
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ClassDef):
                    places[node.name].append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert len(places) > 150, "too few classes were found"
    shared = [f"{name}: {', '.join(found)}" for name, found in places.items() if len(found) > 1]
    assert not shared, "rename all but one of these, in the words of docs/glossary.md:\n" + "\n".join(shared)
