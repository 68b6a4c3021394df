"""Compare an ONNX model with the model that it was made of, and refuse it if any score differs.

A converter can be wrong without an error: native categories of boosted trees are, in skl2onnx. So it is not enough that
the stored reference rows agree: rows that are made of them meet each column's missing value, unseen labels, each label
that the model knows, and numbers far out.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from include.io.registry.models import REFERENCE_SCORE, LoadedModel
from tools.export_model.graph import NO_LABEL, NotPortableError

TOLERANCE = 1e-6
"""The largest difference of a score; as a share of the score where that is larger than 1."""
FAR_OUT = (-1e6, 0.0, 1e6)
ROWS_A_COLUMN = 4
UNSEEN = "a label that is in no data"


def inputs_of(rows: pl.DataFrame, numeric: Sequence[str], categorical: Sequence[str]) -> dict[str, np.ndarray]:
    """Return rows as the ONNX model takes them."""
    numbers = {c: rows[c].cast(pl.Float64).fill_null(float("nan")).to_numpy().reshape(-1, 1) for c in numeric}
    labels = {
        c: rows[c].cast(pl.String).fill_null(NO_LABEL).to_numpy().astype(object).reshape(-1, 1) for c in categorical
    }
    return numbers | labels


def scores_of(content: bytes, rows: pl.DataFrame, numeric: Sequence[str], categorical: Sequence[str]) -> np.ndarray:
    """Return what onnxruntime makes of rows (rows x outputs).

    Raises:
        NotPortableError: onnxruntime cannot run the model.
    """
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)  # the error is raised as well
    try:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        given = inputs_of(rows, numeric, categorical)
        # An input that nothing uses is left out by some converters.
        wanted = {each.name for each in session.get_inputs()}
        found = session.run(None, {name: value for name, value in given.items() if name in wanted})
    except Exception as error:  # its errors share no class
        why = str(error).strip().split("\n")[0]
        raise NotPortableError(f"onnxruntime cannot run the export: {why}") from error
    return np.asarray(found[-1], dtype=np.float64).reshape(rows.height, -1)


def hard_rows(reference: pl.DataFrame, model: LoadedModel, labels: Mapping[str, Sequence[str]]) -> pl.DataFrame:
    """Return rows that are made of reference rows, with `__why`: what is special in each."""
    # As the model takes them: a whole number of 16 bits, or true and false, has no room for what is far out.
    reference = reference.select(model.inputs).with_columns(pl.col(c).cast(pl.Float64) for c in model.numeric)
    few = reference.head(ROWS_A_COLUMN)
    found = []

    def add(base: pl.DataFrame, column: str, values: pl.Series | None, why: str) -> None:
        changed = pl.lit(None, base.schema[column]).alias(column) if values is None else values.alias(column)
        found.append(base.with_columns(changed).with_columns(pl.lit(f"{column} {why}").alias("__why")))

    for column in model.inputs:
        add(few, column, None, "missing")
    for column in model.numeric:
        for value in FAR_OUT:
            add(few, column, pl.Series([value] * few.height), f"{value:g}")
    for column in model.categorical:
        known = [*labels.get(column, ()), UNSEEN]
        repeated = pl.concat([reference] * (len(known) // reference.height + 1)).head(len(known))
        add(repeated, column, pl.Series(known, dtype=pl.String), "with each known label and an unseen one")
    nothing = few.head(1).with_columns(pl.lit(None, few.schema[c]).alias(c) for c in model.inputs)
    found.append(nothing.with_columns(pl.lit("all columns missing").alias("__why")))
    return pl.concat(found)


def require_equal(
    content: bytes, model: LoadedModel, reference: pl.DataFrame, labels: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """Return what was compared: rows, and the largest difference.

    Args:
        content: the ONNX model.
        model: the model that it was made of.
        reference: the stored reference rows with their scores.
        labels: the labels that the model knows, by column.

    Raises:
        NotPortableError: scores differ; names the rows, the largest difference, and the column.
    """
    stored = reference.select(pl.selectors.starts_with(REFERENCE_SCORE)).to_numpy()
    rows = reference.select(model.inputs)
    hard = hard_rows(rows, model, labels)
    now = model.predict(hard).reshape(hard.height, -1)
    largest = _require("stored reference rows", content, model, rows, stored, None)
    also = _require("rows made of them", content, model, hard.drop("__why"), now, hard["__why"].to_list())
    return {
        "tolerance": TOLERANCE,
        "reference_rows": rows.height,
        "largest_difference": largest,
        "made_rows": hard.height,
        "largest_difference_of_made_rows": also,
    }


def _require(
    what: str, content: bytes, model: LoadedModel, rows: pl.DataFrame, expected: np.ndarray, why: list[str] | None
) -> float:
    found = scores_of(content, rows, model.numeric, model.categorical)
    if found.shape != expected.shape:
        raise NotPortableError(f"the export has {found.shape[1]} scores a row, and the model {expected.shape[1]}")
    differences = np.abs(found - expected)
    allowed = TOLERANCE * np.maximum(1.0, np.abs(expected))
    wrong = ~((differences <= allowed) | (np.isnan(found) & np.isnan(expected)))
    if wrong.any():
        row, output = np.unravel_index(np.nanargmax(np.where(wrong, np.nan_to_num(differences, nan=np.inf), -1)),
                                       wrong.shape)  # fmt: skip
        special = "" if why is None else f", {why[row]}"
        name = _output_name(model, int(output))
        raise NotPortableError(
            f"{wrong.any(axis=1).sum()} of {len(found)} {what} score otherwise in ONNX than in scikit-learn, by up to "
            f"{differences[row, output]:.3g} (more than {TOLERANCE:g}): {name} of row {row}{special} is "
            f"{found[row, output]:.9g} instead of {expected[row, output]:.9g}{_suspects(rows, wrong, why)}"
        )
    return float(np.nanmax(differences, initial=0.0))


def _suspects(rows: pl.DataFrame, wrong: np.ndarray, why: list[str] | None) -> str:
    """Say by which column the rows were special that differ most often."""
    if why is None:
        return ""
    shares: dict[str, list[bool]] = {}
    for reason, is_wrong in zip(why, wrong, strict=True):
        shares.setdefault(reason, []).append(bool(is_wrong.any()))
    worst = sorted(shares, key=lambda each: -sum(shares[each]) / len(shares[each]))[:3]
    return ". Most often: " + "; ".join(f"{each} ({sum(shares[each])} of {len(shares[each])})" for each in worst)


def _output_name(model: LoadedModel, output: int) -> str:
    if model.problem_type == "multiclass":
        return f"the probability of {model.classes[output]}"
    if model.problem_type == "quantile":
        return f"the quantile {model.quantiles[output]:g}"
    return "the score"
