"""Read a page of docs/ for a drill: the commands to type, and the output to expect."""

import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tools.stack import ROOT

RUNBOOKS = ROOT / "docs" / "runbooks"


@dataclass(frozen=True)
class Page:
    """A page of docs/runbooks/, or of another folder."""

    name: str
    folder: Path = RUNBOOKS

    @cached_property
    def text(self) -> str:
        return (self.folder / f"{self.name}.md").read_text(encoding="utf-8")

    def commands(self, heading: str) -> list[str]:
        """Return the shell scripts under a heading."""
        return self._fences(heading, "bash")

    def json(self, heading: str) -> Any:
        """Return the first JSON under a heading."""
        return json.loads(self._fences(heading, "json")[0])

    def seen(self, heading: str) -> list[str]:
        """Return the lines of expected output; `…` matches anything."""
        return [line for block in self._fences(heading, "text") for line in block.splitlines()]

    def quotes(self, said: str) -> bool:
        """Return whether the page quotes the text, in backticks or as a line of expected output."""
        return f"`{said}`" in self.text or any(said in line for line in self.seen("First checks"))

    def _fences(self, heading: str, kind: str) -> list[str]:
        body = self.text.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
        return re.findall(rf"```{kind}\n(.*?)\n```", body, re.DOTALL)


def matches(said: str, text: str) -> bool:
    """Return whether a text contains a quotation of a page."""
    return re.search(".*".join(map(re.escape, said.split("…"))), text) is not None
