"""The notebook: its cells, how it is run, and whether two runs of it say the same."""

import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from include.config.model import Model
from include.core.errors import ActionRequiredError
from include.core.project import Project
from tools.generated import ROOT

PASSED_ON = ("PATH", "LANG", "PYTHONPATH", "NIGHTLY_PROJECTS", "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
"""The variables that the notebook's process gets. It has no login and no key."""
SECONDS = 600
NUMBER = re.compile(r"[+−-]?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?")
SAME, NEAR_ZERO = 0.02, 0.01
MAY_DIFFER = 0.05
"""A fit on another processor may differ in its last bits, and a boosted tree then splits elsewhere. So numbers may
differ by 2 %, and this share of the lines by more."""


def cells(project: Project, models: Sequence[Model]) -> Iterator[tuple[str, str]]:
    """Yield the kind (markdown or code) and the text of each cell."""
    head = (
        f"# {project.title}: what drives the predictions, are they fair, what would another threshold cost\n\n"
        f"Made by `make insight PROJECT={project.name}`; docs/insight.md explains it. Run it by that command: a cell "
        "reads what the command has prepared, and has no login."
    )
    yield "markdown", head
    yield "code", "from tools.insight.section import section\nfrom tools.insight.shown import show"
    for model in models:
        name = model.name
        yield (
            "markdown",
            f"## {model.title} (`{name}`)\n\n{_sentence(model.purpose)} *Decision:* {model.decision}.",
        )
        yield "code", f'{name} = section("{name}")\nshow(*{name}.summary())'
        yield "markdown", f"### {model.title}: what drives it"
        yield "code", f"show(*{name}.what_drives_it())"
        yield "markdown", f"### {model.title}: is it fair"
        yield "code", f"show(*{name}.is_it_fair())"
        yield "markdown", f"### {model.title}: what another threshold would cost"
        yield "code", f"show(*{name}.another_threshold())"


def environment(given: Mapping[str, str], folder: Path, home: str) -> dict[str, str]:
    """Return the variables of the notebook's process."""
    return {
        **{name: given[name] for name in PASSED_ON if name in given},
        "INSIGHT_FOLDER": str(folder),
        "HOME": home,
        "IPYTHONDIR": home,
        "JUPYTER_PLATFORM_DIRS": "1",
        "PYTHONWARNINGS": "ignore:IProgress not found",  # tqdm would like to draw a bar
    }


def execute(project: Project, models: Sequence[Model], folder: Path) -> Any:
    """Return the notebook, run in a process that has only the folder which was made for it.

    Raises:
        ActionRequiredError: the packages for notebooks are not installed, or a cell failed.
    """
    try:
        import nbclient
        import nbformat.v4 as nbformat
        from jupyter_client.manager import AsyncKernelManager
    except ImportError as error:
        raise ActionRequiredError(f"{error.name} is not installed. Type: make insight") from error
    found = nbformat.new_notebook(
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    )
    for number, (kind, text) in enumerate(cells(project, models)):
        new = nbformat.new_markdown_cell if kind == "markdown" else nbformat.new_code_cell
        found.cells.append(new(text, id=f"cell-{number}"))
    with tempfile.TemporaryDirectory(prefix="nightly-kernel-") as home:
        manager = AsyncKernelManager(kernel_name="python3", transport="ipc")
        client = nbclient.NotebookClient(
            found, km=manager, timeout=SECONDS, record_timing=False, resources={"metadata": {"path": str(ROOT)}}
        )
        try:
            client.execute(env=environment(os.environ, folder, home), cwd=str(ROOT))
        except nbclient.exceptions.CellExecutionError as error:
            raise ActionRequiredError(f"a cell of the notebook failed:\n{_plain(str(error))}") from error
    for output in (each for cell in found.cells for each in cell.get("outputs", ())):
        if output.output_type != "display_data":
            raise ActionRequiredError(f"a cell printed something:\n{_plain(output.get('text') or str(output))}")
        output.metadata.clear()
    found.metadata.pop("language_info", None)  # the version of Python, which decides nothing here
    return found


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return what a notebook says otherwise than another run of it; what may differ is left out.

    Args:
        before: a notebook with outputs, as JSON has it.
        now: the other run.
    """
    if _sources(before) != _sources(now):
        return ["the cells are others"]
    old, new = ([*_lines(each)] for each in (before, now))
    if len(old) != len(new):
        return [f"it has {len(new):,} lines of output instead of {len(old):,}"]
    found = [f"{was!r} is now {is_now!r}" for was, is_now in zip(old, new, strict=True) if not _same(was, is_now)]
    return found if len(found) > MAY_DIFFER * len(old) else []


def _sources(notebook: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(cell["cell_type"], "".join(cell["source"])) for cell in notebook["cells"]]


def _lines(notebook: Mapping[str, Any]) -> Iterator[str]:
    for cell in notebook["cells"]:
        for output in cell.get("outputs", ()):
            yield from "".join(output["data"]["text/plain"]).splitlines()


def _same(was: str, is_now: str) -> bool:
    if was == is_now:
        return True
    if [each.split() for each in NUMBER.split(was)] != [each.split() for each in NUMBER.split(is_now)]:
        return False
    pairs = [
        [float(text.replace(",", "").replace("−", "-")) for text in NUMBER.findall(line)] for line in (was, is_now)
    ]
    return all(abs(a - b) <= max(SAME * abs(a), NEAR_ZERO) for a, b in zip(*pairs, strict=True))


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _plain(text: str) -> str:
    """Return a traceback without the colours of a terminal."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)
