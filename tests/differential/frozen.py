"""Freeze a run of an example project, and compare a later run with it.

A reference has the features of the last run date, the scores that were published from them, the checks of all gate
decisions, and the files of the champions. The test of the nightly runs (`tests/<project>/e2e`) compares its own run;
`tests/unit/test_frozen_models.py` scores the frozen features with the frozen models.

What is compared how closely:

- Features are equal, numbers to 1e-9: Spark adds in one order.
- Frozen models score frozen features as they did, to 1e-9, as reference rows are compared.
- A new fit on another processor may differ in its last bits, and a boosted tree then splits elsewhere. So scores of new
  fits may differ in 1 % of the rows, and measured values of the gate by 2 %. Verdicts are equal.
"""

import io
import lzma
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated

import numpy as np
import polars as pl
import typer
from rich.console import Console
from rich.table import Table

from include.config.loading import load_project, model_names
from include.core.horizons import with_horizon
from include.core.names import features_table
from include.core.project import Project
from include.core.settings import Settings
from include.io.registry import Registry
from include.io.registry.models import ModelFiles
from include.io.registry.versions import logged_model
from include.io.tables import Tables
from tools import demo, summary
from tools.stack import HOME, ROOT, Stack

KEY = ("horizon", "entity_id")
NEVER_EQUAL = ("scoring time", "size")
"""Checks whose measured value depends on the machine."""

SAME_FEATURE = 1e-9
MOVED, MAY_MOVE = 1e-3, 0.01
"""A score has moved if it differs by more than this share of the scores' range; the share of rows that may."""
SAME_MEASURE, NEAR_ZERO = 0.02, 0.002

SCORES = """
SELECT model, horizon, entity_id, model_version, score FROM current_predictions
WHERE day = :day AND model = ANY(:models) ORDER BY model, horizon, entity_id
"""

CHECKS = """
SELECT d.model, d.day, c.name AS check, c.subject, c.passed, c.measured
FROM gate_decisions d JOIN gate_checks c USING (gate_id) WHERE d.model = ANY(:models)
ORDER BY d.model, d.day, d.model_version, c.number
"""


@dataclass(frozen=True)
class Difference:
    """One thing that is not as it was frozen."""

    what: str
    where: str
    was: str
    now: str


@dataclass(frozen=True)
class Frozen:
    """What is compared of a run, without the files of the models.

    Attributes:
        features: of the last run date, without `as_of` and `data_view`.
        scores: model, KEY and score of the champions on that day.
        checks: model, day, check, subject, passed and measured of each check of each gate decision.
    """

    features: pl.DataFrame
    scores: pl.DataFrame
    checks: pl.DataFrame

    @classmethod
    def load(cls, project: str) -> "Frozen":
        """Read the reference of a project."""
        folder = folder_of(project)
        checks = pl.read_csv(folder / "checks.csv", schema_overrides={"day": pl.Date, "measured": pl.Float64})
        return cls(pl.read_parquet(folder / "features.parquet"), pl.read_parquet(folder / "scores.parquet"), checks)

    def save(self, project: str) -> None:
        """Write the reference of a project; measured values with 4 digits, so that a change is read in a diff."""
        folder = folder_of(project)
        folder.mkdir(parents=True, exist_ok=True)
        self.features.write_parquet(folder / "features.parquet", compression_level=19)
        self.scores.write_parquet(folder / "scores.parquet", compression_level=19)
        measured = pl.when(~pl.col("check").is_in(NEVER_EQUAL)).then(pl.col("measured").round_sig_figs(4))
        self.checks.with_columns(measured=measured).write_csv(folder / "checks.csv")


def folder_of(project: str) -> Path:
    """Return where the reference of a project is."""
    return ROOT / "tests" / project / "reference"


def models_of(project: str) -> list[Path]:
    """Return the packed files of the frozen models of a project."""
    return sorted((folder_of(project) / "models").glob("*.tar.xz"))


def read_run(stack: Stack, project: Project) -> Frozen:
    """Read what a stack has of the days that `make run` runs."""
    day, models = _last_day(project), _models(project)
    environment = stack.cli_environment()
    with _variables(environment):
        features = Tables(Settings()).scan(features_table(project.name))
        rows = with_horizon(features.filter(day=day, data_view="point_in_time")).collect()
    scores = summary.query(environment["READER_URL"], SCORES, day=day, models=models)
    checks = summary.query(environment["OPS_READER_URL"], CHECKS, models=models)
    return Frozen(
        rows.drop("as_of", "data_view").sort(KEY),
        pl.DataFrame([row._asdict() for row in scores]).drop("model_version"),
        pl.DataFrame([row._asdict() for row in checks], infer_schema_length=None),
    )


def freeze_models(stack: Stack, project: Project) -> None:
    """Pack the files of the champions of the last run date."""
    folder = folder_of(project.name) / "models"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    environment = stack.cli_environment()
    rows = summary.query(environment["READER_URL"], SCORES, day=_last_day(project), models=_models(project))
    with _variables(environment):
        registry = Registry(Settings())
        for model, version in sorted({(row.model, row.model_version) for row in rows}):
            logged = logged_model(registry.connection, registry.get_version(model, version))
            with registry.connection.downloaded(logged.uri) as found:
                assert found is not None, logged.uri
                pack(ModelFiles.within(Path(found)), folder / f"{model}.tar.xz")


def pack(files: ModelFiles, target: Path) -> None:
    """Write files into an archive whose bytes depend on nothing but their names and contents."""
    with lzma.open(target, "wb", preset=9) as packed, tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in sorted(files.contents.items()):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            with tempfile.TemporaryFile() as file:
                file.write(content)
                file.seek(0)
                archive.addfile(member, file)


@contextmanager
def unpacked(archive: Path) -> Iterator[Path]:
    """Yield a folder with the files of a packed model."""
    with tempfile.TemporaryDirectory(prefix="nightly-frozen-") as folder, tarfile.open(archive, mode="r:xz") as packed:
        packed.extractall(folder, filter="data")
        yield Path(folder)


def compare(was: Frozen, now: Frozen) -> list[Difference]:
    """Return what differs, features first, because the rest follows from them."""
    return [
        *compare_features(was.features, now.features),
        *compare_scores(was.scores, now.scores),
        *compare_checks(was.checks, now.checks),
    ]


def compare_features(was: pl.DataFrame, now: pl.DataFrame) -> list[Difference]:
    """Compare columns, rows and values."""
    found = _compare_names("features: columns", was.columns, now.columns)
    rows = [len(was.join(now, on=KEY, how="anti")), len(now.join(was, on=KEY, how="anti"))]
    if any(rows):
        found.append(Difference("features: rows", "in one of the two only", f"{rows[0]:,}", f"{rows[1]:,}"))
    both = was.join(now, on=KEY, suffix="__now")
    for name in sorted((set(was.columns) & set(now.columns)) - set(KEY)):
        if was.schema[name] != now.schema[name]:
            found.append(Difference("features: type", name, str(was.schema[name]), str(now.schema[name])))
            continue
        before, after = pl.col(name), pl.col(f"{name}__now")
        equal = before.eq_missing(after)
        if was.schema[name].is_float():
            equal |= (before - after).abs() <= SAME_FEATURE * before.abs()
        differing = both.filter(~equal.fill_null(value=False))
        if not differing.is_empty():
            first = differing.row(0, named=True)
            where = f"{name}, {len(differing):,} of {len(both):,} rows, such as {first['entity_id']}"
            found.append(Difference("features", where, str(first[name]), str(first[f"{name}__now"])))
    return found


def compare_scores(was: pl.DataFrame, now: pl.DataFrame) -> list[Difference]:
    """Compare the published scores of each model."""
    found = []
    for model in sorted({*was["model"], *now["model"]}):
        before, after = was.filter(model=model), now.filter(model=model)
        both = before.join(after, on=KEY, suffix="__now")
        if not len(both) == len(before) == len(after):
            found.append(Difference("scores: rows", model, f"{len(before):,}", f"{len(after):,}"))
            continue
        spread = np.ptp(before["score"].to_numpy())
        moved = both.filter((pl.col("score") - pl.col("score__now")).abs() > MOVED * spread)
        if len(moved) > MAY_MOVE * len(both):
            first = moved.row(0, named=True)
            where = f"{model}, {len(moved):,} of {len(both):,} rows, such as {first['entity_id']}"
            found.append(Difference("scores", where, f"{first['score']:.6g}", f"{first['score__now']:.6g}"))
    return found


def compare_checks(was: pl.DataFrame, now: pl.DataFrame) -> list[Difference]:
    """Compare the checks of the gate: which there are, their verdicts, and what they measured."""
    key = ("model", "day", "check", "subject")
    found = _compare_names("gate: checks", *([", ".join(map(str, row)) for row in each.select(key).rows()]
                                             for each in (was, now)))  # fmt: skip
    for row in was.join(now, on=key, suffix="__now").iter_rows(named=True):
        where = ", ".join(str(row[name]) for name in key)
        if row["passed"] != row["passed__now"]:
            found.append(Difference("gate: verdict", where, *(_verdict(row[c]) for c in ("passed", "passed__now"))))
        elif row["check"] not in NEVER_EQUAL and not _near(row["measured"], row["measured__now"]):
            values = (f"{row[c]:.4g}" if row[c] is not None else "none" for c in ("measured", "measured__now"))
            found.append(Difference("gate: measured", where, *values))
    return found


def as_table(project: str, differences: Sequence[Difference]) -> Table:
    """Return the differences as a table."""
    table = Table(title=f"{project}: differences to tests/{project}/reference", title_justify="left")
    for name in ("what", "where", "was", "is now"):
        table.add_column(name, overflow="fold")
    for each in differences:
        table.add_row(each.what, each.where, each.was, each.now)
    return table


def in_words(project: str, differences: Sequence[Difference]) -> str:
    """Return the differences as the message of a failed test."""
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(as_table(project, differences))
    accept = f"If that is what your change is for: make run PROJECT={project} && make accept PROJECT={project}"
    return f"{console.export_text()}\n{accept}"


def main(
    project: Annotated[str, typer.Option(help="an example project that has run on the local stack")],
    accept: Annotated[bool, typer.Option(help="rewrite the reference")] = False,
) -> None:
    """Compare the local stack's run with the reference; exit with 1 if they differ and are not accepted."""
    stack, loaded = Stack(HOME), load_project(project)
    now, console = read_run(stack, loaded), Console()
    differences = compare(Frozen.load(project), now) if folder_of(project).exists() else []
    if differences:
        console.print(as_table(project, differences))
    else:
        console.print(f"{project}: no differences to the reference")
    if accept:
        now.save(project)
        freeze_models(stack, loaded)
        console.print(f"wrote {folder_of(project).relative_to(ROOT)}; read its git diff before you commit it")
    elif differences:
        raise typer.Exit(1)


def _last_day(project: Project) -> date:
    return demo.days_to_run(project)[1].end


def _models(project: Project) -> list[str]:
    return model_names(project.name)


def _compare_names(what: str, was: Sequence[str], now: Sequence[str]) -> list[Difference]:
    gone, new = [n for n in was if n not in set(now)], [n for n in now if n not in set(was)]
    return [
        *(Difference(what, name, "there", "gone") for name in gone),
        *(Difference(what, name, "absent", "new") for name in new),
    ]


def _near(was: float | None, now: float | None) -> bool:
    if was is None or now is None:
        return was is now
    return abs(was - now) <= max(SAME_MEASURE * abs(was), NEAR_ZERO)


def _verdict(passed: bool) -> str:
    return "passed" if passed else "failed"


@contextmanager
def _variables(environment: dict[str, str]) -> Iterator[None]:
    """Set variables of this process for a block."""
    before = dict(os.environ)
    os.environ.update(environment)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


if __name__ == "__main__":
    typer.run(main)
