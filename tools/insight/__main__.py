"""Run the notebook of a project against a stack, and write it as page and PDF."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from include.cli_say import say
from include.config.loading import load_model, load_project, model_names
from include.config.model import Model
from include.core.errors import ActionRequiredError
from include.core.project import Project
from include.core.settings import Settings
from include.io.pdf import NoPdfError, make_pdf
from tools.generated import ROOT
from tools.insight.bundle import write_bundle
from tools.insight.notebook import execute
from tools.insight.page import make_page

KEPT = Path("notebooks") / "insight.ipynb"
"""Where a project keeps its notebook, below its folder."""


def run(project: Project, models: Sequence[Model], settings: Settings, target: Path, *, pdf: bool = True) -> list[Path]:
    """Write the notebook, its page and its PDF into a folder; return their paths.

    Raises:
        ActionRequiredError: no model has a champion, or a cell failed.
    """
    import nbformat

    with tempfile.TemporaryDirectory(prefix="nightly-insight-") as folder:
        ready = [model for model in models if write_bundle(model, settings, Path(folder) / model.name)]
        if not ready:
            raise ActionRequiredError(f"{', '.join(model.name for model in models)}: no version is champion yet")
        notebook = execute(project, ready, Path(folder))
    name = project.name if len(models) > 1 else models[0].name
    target.mkdir(parents=True, exist_ok=True)
    written = [target / f"{name}.ipynb", target / f"{name}.html"]
    nbformat.write(notebook, written[0])
    html = make_page(f"{project.title}: insight", notebook)
    written[1].write_text(html, encoding="utf-8")
    if pdf:
        written.append(target / f"{name}.pdf")
        written[2].write_bytes(make_pdf(html))
    return written


def main(
    project: Annotated[str, typer.Option(help="a project")],
    model: Annotated[str, typer.Option(help="one of its models; default: all that have a champion")] = "",
    target: Annotated[Path, typer.Option("--to", help="a folder for notebook, page and PDF")] = ROOT
    / "build"
    / "insight",
    *,
    pdf: Annotated[bool, typer.Option(help="also as PDF")] = True,
    keep: Annotated[bool, typer.Option("--keep", help="also keep the notebook in the project's folder")] = False,
) -> None:
    """Run the notebook of a project, and write it as page and PDF."""
    try:
        config = load_project(project)
        names = [model] if model else model_names(project)
        written = run(config, [load_model(name) for name in names], Settings(), target, pdf=pdf)
        if keep:
            place = config.folder / KEPT
            place.parent.mkdir(exist_ok=True)
            place.write_bytes(written[0].read_bytes())
            written.append(place)
    except (ActionRequiredError, NoPdfError) as error:
        say(*str(error).splitlines(), error=True)
        raise SystemExit(2) from None
    for path in written:
        say(f"{path}  {path.stat().st_size / 1000:,.0f} kB")


if __name__ == "__main__":
    typer.run(main)
