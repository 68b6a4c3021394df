"""What `check_config` finds: problems, each with its file and line."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml.error import YAMLError

from include.core.errors import ActionRequiredError
from include.core.yaml_file import key_error, keys_of, place, read_yaml

SENTENCE = re.compile(r"(?P<file>.+?\.\w+)(?:, line (?P<line>\d+))?: (?P<what>.*)", re.DOTALL)


@dataclass(frozen=True)
class Problem:
    """Something that is wrong.

    Attributes:
        file: the file, relative to the working directory if it is below.
        line: in it.
        what: what is wrong, and how to fix it.
    """

    file: str
    line: int
    what: str

    @classmethod
    def of(cls, sentence: str, otherwise: Path) -> "Problem":
        """Return the problem of a sentence that begins with a file, or is about the file `otherwise`."""
        found = SENTENCE.match(sentence)
        if found is None or not Path(found["file"]).is_absolute():
            return cls(_short(otherwise), 1, sentence)
        file, line, what = Path(found["file"]), found["line"], found["what"]
        if line is None and file.suffix == ".yaml":
            with suppress(YAMLError, OSError):
                line = place(file, *keys_of(what)).rpartition(", line ")[2]
        return cls(_short(file), int(line) if line and line.isdigit() else 1, what)

    @classmethod
    def at(cls, file: Path, line: int, what: str) -> "Problem":
        """Return the problem at a line of a file."""
        return cls(_short(file), line, what)

    def text(self, form: str = "text", *, warning: bool = False) -> str:
        """Return the line for people, or the annotation of a GitHub workflow."""
        if form == "github":
            what = self.what.replace("%", "%25").replace("\n", "%0A")
            return f"::{'warning' if warning else 'error'} file={self.file},line={self.line}::{what}"
        return f"{self.file}:{self.line}: {'warning: ' if warning else ''}{self.what}"


def _short(path: Path) -> str:
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


class Problems:
    """The problems of a project, in the order in which they were found."""

    def __init__(self) -> None:
        """Begin without any."""
        self.problems: list[Problem] = []

    def add(self, file: Path, sentences: Iterable[str]) -> None:
        """Add sentences about a file, or about the file that a sentence begins with."""
        self.problems += [Problem.of(sentence, file) for sentence in sentences]

    def add_keys(self, file: Path, sentences: list[str]) -> None:
        """Add sentences that each begin with a key of a YAML file."""
        if sentences:
            self.add(file, key_error(file, *sentences).lines)

    def yaml(self, file: Path) -> dict[str, Any]:
        """Return what a YAML file declares, nothing if it cannot be read."""
        with self.refusals(file):
            return read_yaml(file)
        return {}

    @contextmanager
    def refusals(self, file: Path) -> Iterator[None]:
        """Add what is refused within the block."""
        try:
            yield
        except ActionRequiredError as error:
            self.add(file, error.lines)
