"""`make export-model`: write a version of a model into a folder for other programs."""

import os
from pathlib import Path
from typing import Annotated

import typer

from include.cli_say import say
from include.config.loading import load_model
from include.config.model import Model
from include.core.errors import ActionRequiredError
from include.core.settings import Settings
from include.io import postgres
from include.io.registry import Registry
from include.io.registry.models import load_files, verified_files
from include.io.registry.versions import logged_model
from tools.export_model.written import Exported, write


def read_version(model: Model, version: int | None, settings: Settings) -> Exported:
    """Return a version with its verified files; the newest champion by default.

    Raises:
        ActionRequiredError: there is no such version, or its files are not those of its fit.
        DataError: the libraries here score its reference rows otherwise.
    """
    champion = postgres.promotions.read_newest_champion(settings, model.name)
    version = champion if version is None else version
    if version is None:
        raise ActionRequiredError(f"{model.name} has no champion yet; name a version: VERSION=…")
    registry = Registry(settings)
    found = registry.get_version(model.name, version)
    recorded = postgres.model_files.read_versions(settings, model.name, [version])[version]
    logged = logged_model(registry.connection, found)
    files = verified_files(registry.connection, logged, recorded.model_digest)
    about = {
        "model": model.name,
        "version": version,
        "semantic_version": postgres.model_files.read_names(settings, model.name, [version]).get(version),
        "title": model.title,
        "project": model.project,
        "run_date": found.tags.get("day"),
        "is_champion": version == champion,
    }
    return Exported(about, files, load_files(files, logged, model.stored), model.stored.kind)


def main(
    model: Annotated[str, typer.Option(help="the model")],
    version: Annotated[int | None, typer.Option(help="its version; the champion by default")] = None,
    to: Annotated[Path | None, typer.Option(help="the folder; dist/models/<model>-<version> by default")] = None,
    *,
    onnx: Annotated[bool, typer.Option("--onnx/--no-onnx", help="whether to convert it to ONNX")] = True,
) -> None:
    """Write a version of a model for other programs; nothing is written if a part of it is refused."""
    try:
        if not model:
            raise ActionRequiredError("name the model: make export-model MODEL=…")
        exported = read_version(load_model(model), version, Settings())
        target = to or Path("dist") / "models" / f"{model}-{exported.about['version']}"
        manifest = write(exported, target, with_onnx=onnx)
    except ActionRequiredError as error:
        head = f"{model or 'export-model'} is not exported"
        advice = ". The MLflow folder alone: ONNX=no" if type(error).__name__ == "NotPortableError" else ""
        say(*f"{head}: {error}{advice}".splitlines(), error=True)
        raise typer.Exit(1) from None
    say(f"{os.path.relpath(target)}: version {exported.about['version']} of {model}")
    if manifest["onnx"]:
        compared = manifest["onnx"]["compared"]
        rows = compared["reference_rows"] + compared["made_rows"]
        largest = max(compared["largest_difference"], compared["largest_difference_of_made_rows"])
        say(f"onnxruntime scores {rows} rows as scikit-learn does; the largest difference is {largest:.2g}")


if __name__ == "__main__":
    typer.run(main)
