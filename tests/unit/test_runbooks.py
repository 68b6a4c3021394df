"""Every alert and every task has a runbook page, and each page has the sections that on-call needs."""

import re

import pytest

from tools.stack import ROOT

RUNBOOKS = ROOT / "docs" / "runbooks"
HEADINGS = ["Severity", "Safe to run again", "First checks", "Fix it", "Fixed when"]
OTHERS = {"README", "backfill-a-day"}
PAGES = sorted(path.stem for path in RUNBOOKS.glob("*.md") if path.stem not in OTHERS)
LINKS = re.compile(r"\]\(([^)#]+\.md)")


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_short_and_has_the_sections_that_on_call_needs(page: str) -> None:
    text = (RUNBOOKS / f"{page}.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == HEADINGS
    assert len(text.splitlines()) <= 50, "split or shorten the page: on-call reads it during an incident"
    for heading in ("Fix it", "Fixed when"):
        body = text.split(f"## {heading}\n")[1].split("\n## ")[0]
        assert "```" in body, f"{heading}: add a command to type or a line to look for"


def test_the_index_lists_every_page_and_no_link_is_broken() -> None:
    index = (RUNBOOKS / "README.md").read_text(encoding="utf-8")
    pages = {link for link in LINKS.findall(index) if not link.startswith("../")}
    assert sorted(pages) == sorted(f"{page}.md" for page in [*PAGES, "backfill-a-day"])
    for path in (*RUNBOOKS.glob("*.md"), ROOT / "README.md", ROOT / "docs" / "concepts.md"):
        for link in LINKS.findall(path.read_text(encoding="utf-8")):
            if not link.startswith("http"):
                assert (path.parent / link).is_file(), f"{path.name}: {link}"


def test_every_page_that_an_alert_names_exists() -> None:
    named = set()
    for folder in ("dags", "include"):
        for path in (ROOT / folder).rglob("*.py"):
            named |= set(re.findall(r"docs/runbooks/([a-z_-]+)\.md", path.read_text(encoding="utf-8")))
    assert {"run-timed-out", "killed", "alert-scores-late", "alert-rule-broken"} <= named
    assert named <= set(PAGES)


ON_A_COMMAND_LINE = re.compile(
    r"--conn-(password|uri|json)|(?<!\bexport )NIGHTLY_\w+_URL=\S*://[^\s/@:]*:\S+@|psql\s+\S*://\w+:\S+@"
)


def test_no_page_and_no_message_puts_a_secret_on_a_command_line() -> None:
    """Every user of a machine can read the command lines of all its processes."""
    for text in ("connections add x --conn-password y", "psql postgresql://ana:secret@db/x -c 1"):
        assert ON_A_COMMAND_LINE.search(text), "this test finds nothing"
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    code = [path for folder in ("include", "dags", "plugins", "tools") for path in (ROOT / folder).rglob("*.py")]
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in (*pages, *code)
        for line in path.read_text(encoding="utf-8").splitlines()
        if ON_A_COMMAND_LINE.search(line)
    ]
    assert found == [], "write it into a file that only its owner may read: docs/configuration.md"
