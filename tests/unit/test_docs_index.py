"""`docs/README.md` names each page of `docs/` once, and `README.md` names that index and at most five pages."""

import re

from tools.stack import ROOT

DOCS = ROOT / "docs"
LINKS = re.compile(r"\]\(([^)#]+\.md)\)")


def test_the_index_names_each_page_once() -> None:
    rows = re.findall(
        r"^\| \[[^]]+\]\(([^)]+)\) \| [A-Z`].*\. \|$", (DOCS / "README.md").read_text("utf-8"), re.MULTILINE
    )
    pages = {path.name for path in DOCS.glob("*.md")} - {"README.md"}
    assert sorted(rows) == sorted([*pages, "runbooks/README.md", "decisions/README.md"]), (
        "add the page to docs/README.md"
    )


def test_no_link_between_pages_is_broken() -> None:
    broken = [
        f"{path.relative_to(ROOT)}: {link}"
        for path in (ROOT / "README.md", *DOCS.rglob("*.md"))
        for link in re.findall(r"\]\(([^)#\s]+\.md)(?:#[^)]*)?\)", path.read_text("utf-8"))
        if not link.startswith("http") and not (path.parent / link).is_file()
    ]
    assert broken == []


def test_each_command_of_make_that_is_listed_or_documented_has_a_rule() -> None:
    """Make says nothing and succeeds if a phony target has no rule."""
    makefile = (ROOT / "Makefile").read_text("utf-8")
    rules = {name for line in re.findall(r"^([a-z][a-z -]*):(?!=)", makefile, re.MULTILINE) for name in line.split()}
    phony = {name for line in re.findall(r"^\.PHONY: ([a-z].*)$", makefile, re.MULTILINE) for name in line.split()}
    modules = (ROOT / "bench").glob("*.py")
    named = {name for path in modules for name in re.findall(r"`make (bench-[a-z]+)", path.read_text("utf-8"))}
    assert sorted((phony | named) - rules) == []


def test_the_front_page_has_one_short_row_of_docs() -> None:
    rows = [row for row in (ROOT / "README.md").read_text("utf-8").splitlines() if row.startswith("| `docs/` |")]
    assert len(rows) == 1
    assert "docs/README.md" in LINKS.findall(rows[0]) and len(LINKS.findall(rows[0])) <= 6
