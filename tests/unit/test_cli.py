"""The command line against all that tells people what to type: documents, DAGs' runbooks, errors."""

import re
from collections.abc import Iterator

import typer
from typer.core import TyperGroup

from include.cli import app
from tools.stack import ROOT

TOLD = re.compile(r"-m include\.cli (?P<command>[a-z_]+)(?P<rest>[^`\n]*)")


def told() -> Iterator[tuple[str, str, str]]:
    """File, command, and what is typed after it; in code, text may go on in the next line's string."""
    folders = ("dags", "include", "plugins", "tools", "docs")
    files = [p for folder in folders for p in (ROOT / folder).rglob("*") if p.is_file()]
    for path in (ROOT / "README.md", *files):
        if path.suffix in (".py", ".md", ".yaml", ".j2"):
            for found in TOLD.finditer(path.read_text(encoding="utf-8")):
                yield str(path.relative_to(ROOT)), found["command"], found["rest"]


def test_every_command_that_people_are_told_is_one() -> None:
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    wrong, count = [], 0
    for file, name, rest in told():
        count += 1
        command = group.commands.get(name)
        options = {option for p in command.params for option in p.opts} if command else set()
        unknown = [option for option in re.findall(r"(?<![\w-])--[a-z-]+", rest) if option not in options]
        if command is None or unknown:
            wrong.append(f"{file}: include.cli {name} {' '.join(unknown)}")
    assert count > 10
    assert not wrong, "no such command or option:\n" + "\n".join(wrong)
