"""`make model-card`: write what the champion's training report says into the README.md of a model, between two markers.

`make check` calls it with --check. CI has no database, so it compares what a card says it was written for with
`model.yaml` and `estimator.py` as they are: a card of another declaration is out of date. It cannot notice a newer
champion of the same declaration; the card names its version and run date.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from include.cli_say import say
from include.config.loading import load_model, load_project, model_names
from include.config.model import Model
from include.core.code import code_digest
from include.training.config import Training
from nightly_pages.charts import number
from tools.generated import cell

BEGIN, END = "<!-- model-card: written by make model-card", "<!-- model-card: end -->"
DIGITS = 16
MAX_SLICES = 6
NO_REPORT = "No version has a training report yet. After the first promotion, type `make model-card`."


def declared(model: Model) -> str:
    """Return the digest of what decides a fit, as it is written: a new key with a default changes nothing."""
    written = model.model_dump(mode="json", include=set(Training.model_fields), exclude_defaults=True)
    code = [path for path in [model.folder / "estimator.py"] if path.exists()]
    text = json.dumps(written, sort_keys=True) + code_digest(code)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


def card(model: Model, facts: Mapping[str, Any] | None) -> str:
    """Return the part between the markers, with them."""
    lines = [NO_REPORT] if facts is None else [*_lines(facts)]
    return "\n".join([f"{BEGIN}; declared: {declared(model)} -->", "## Figures of the champion", *lines, END])


def _lines(facts: Mapping[str, Any]) -> Iterator[str]:
    days = {name: " to ".join(facts[name]) for name in ("fit", "holdout")}
    fitted = f"fitted on {days['fit']}" if facts.get("fitted_here", True) else "fitted elsewhere and adopted"
    yield (
        f"Version {facts['version']} ({facts['candidate']}) of run date {facts['day']}, {fitted}. "
        f"Measured on the holdout days {days['holdout']}, {facts['rows']:,} rows; in brackets the middle 95 % of "
        f"resamples of days. The gate {'passed' if facts['passed'] else 'rejected'} it, with {facts['checks']} checks."
    )
    yield from ("", "| metric | champion | dummy baseline |", "|---|---|---|")
    for name, found in facts["metrics"].items():
        yield f"| {name} | {_interval(found)} | {number(facts['dummy'].get(name))} |"
    if cost := facts.get("cost"):
        yield ""
        yield (
            f"A prediction costs {_interval(cost['version'])} {cell(cost['unit'])} by the costs in model.yaml; "
            f"the best constant costs {number(cost['constant'])}."
        )
    if strongest := [each["name"] for each in facts["importances"] if each["mean"] > 0]:
        yield from ("", f"Strongest inputs: {', '.join(cell(each) for each in strongest)}.")
    worst = sorted(
        (each for each in facts["slices"] if each["checked"] and each["dummy"]),
        key=lambda each: each["dummy"] / each["loss"] if each["loss"] else float("inf"),
    )[:MAX_SLICES]
    if worst:
        said = [f"{cell(e['column'])} {cell(e['value'])} {e['loss'] / e['dummy'] - 1:+.1%}" for e in worst]
        yield from ("", f"Loss against the dummy baseline, worst slices first: {', '.join(said)}.")


def _interval(found: Mapping[str, float | None]) -> str:
    ends = "" if found["low"] is None else f" ({number(found['low'])} to {number(found['high'])})"
    return f"{number(found['value'])}{ends}"


def replaced(text: str, part: str) -> str:
    """Return a README with another part between its markers; the part is added at the end if it has none."""
    if BEGIN not in text:
        return f"{text.rstrip()}\n\n{part}\n"
    before, _, rest = text.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise SystemExit(f"the README has the marker {BEGIN!r} and not {END!r} after it; put it back")
    return before + part + after


def out_of_date(model: Model) -> str | None:
    """Return why a card is out of date, None if it is not; a README without markers has no card."""
    text = _readme(model).read_text(encoding="utf-8") if _readme(model).exists() else ""
    if BEGIN not in text or f"declared: {declared(model)} -->" in text:
        return None
    return (
        f"{os.path.relpath(_readme(model))}: the figures are of another model.yaml or estimator.py. Train, "
        f"then type: make model-card MODEL={model.name}"
    )


def read_facts(model: Model) -> Mapping[str, Any] | None:
    """Return the facts of the champion's training report, None if there is none."""
    from include.core.settings import Settings
    from include.io import postgres
    from include.io.registry import Registry

    settings = Settings()  # from the environment, as the command line has it
    champion = postgres.promotions.read_newest_champion(settings, model.name)
    if champion is None:
        return None
    registry = Registry(settings)
    return registry.read_facts(registry.get_version(model.name, champion))


def _readme(model: Model) -> Path:
    return model.folder / "README.md"


def _models(name: str) -> Sequence[Model]:
    return [load_model(each) for each in ([name] if name else model_names())]


def main(
    model: Annotated[str, typer.Option(help="the model; all without")] = "",
    *,
    check: Annotated[bool, typer.Option("--check", help="write nothing; fail if a card is out of date")] = False,
) -> None:
    """Write the cards, or check them."""
    if check:
        problems = [why for each in _models(model) if (why := out_of_date(each))]
        for why in problems:
            say(why, error=True)
        raise SystemExit(1 if problems else 0)
    for each in _models(model):
        facts = read_facts(each)
        if facts is None:
            say(f"{each.name}: its champion has no training report here, so its card stays")
            continue
        path = _readme(each)
        old = path.read_text(encoding="utf-8") if path.exists() else f"# {each.name}: {each.title}\n"
        path.write_text(replaced(old, card(each, facts)), encoding="utf-8")
        say(f"{os.path.relpath(path)}: version {facts['version']} of {load_project(each.project).title}")


if __name__ == "__main__":
    typer.run(main)
