"""Every command of `include.cli` that documents, DAG texts and error messages name exists, with its options."""

import re
from collections.abc import Iterator

import typer
from typer.core import TyperGroup

from include.cli import app
from tools.stack import ROOT

COMMAND = re.compile(r"-m include\.cli (?P<command>[a-z_]+(?: [a-z_]+\b)?)(?P<rest>[^`\n]*)")


def named_commands() -> Iterator[tuple[str, str, str]]:
    """Yield file, command and the rest of the line. In code, the command may continue in the next line's string."""
    folders = ("dags", "include", "plugins", "tools", "docs")
    files = [p for folder in folders for p in (ROOT / folder).rglob("*") if p.is_file()]
    for path in (ROOT / "README.md", *files):
        if path.suffix in (".py", ".md", ".yaml", ".j2"):
            for found in COMMAND.finditer(path.read_text(encoding="utf-8")):
                yield str(path.relative_to(ROOT)), found["command"], found["rest"]


def test_every_command_in_documents_and_messages_exists() -> None:
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    wrong, count = [], 0
    for file, named, rest in named_commands():
        count += 1
        name, *of_group = named.split()
        command = group.commands.get(name)
        if isinstance(command, TyperGroup):
            command = command.commands.get(*of_group)
        options = {option for p in command.params for option in p.opts} if command else set()
        unknown = [option for option in re.findall(r"(?<![\w-])--[a-z-]+", rest) if option not in options]
        if command is None or unknown:
            wrong.append(f"{file}: include.cli {named} {' '.join(unknown)}")
    assert count > 10
    assert not wrong, "no such command or option:\n" + "\n".join(wrong)
