"""Write the folder of an exported version: the files as stored, ONNX, rows with their scores, and how to use them."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from include.core.errors import ActionRequiredError
from include.io.registry.models import REFERENCE_FILE, REFERENCE_SCORE, LoadedModel, ModelFiles

MANIFEST, ONNX_FILE, EXAMPLES = "model.json", "model.onnx", "examples.json"
EXAMPLE_ROWS = 10

OUTPUTS = {
    "binary": "the probability of 1",
    "multiclass": "the probability of each class, in the order of `classes` in model.json",
    "regression": "the predicted number",
    "count": "the expected number",
    "quantile": "the quantiles, in the order of `quantiles` in model.json",
}


@dataclass(frozen=True)
class Exported:
    """A version that is to be written.

    Attributes:
        about: what model.json says of it: names, versions, digest.
        files: the files as MLflow has them; their digest is verified.
        model: the same, loaded.
        serialization: how its estimator is stored.
    """

    about: Mapping[str, Any]
    files: ModelFiles
    model: LoadedModel
    serialization: str

    @property
    def reference(self) -> pl.DataFrame:
        """The stored reference rows with their scores."""
        return pl.read_parquet(self.files.contents[REFERENCE_FILE])


def write(exported: Exported, target: Path, *, with_onnx: bool = True) -> dict[str, Any]:
    """Write an export into a folder that is there only if all of it is; return what model.json has.

    An export that is there already is replaced.

    Raises:
        NotPortableError: the model has no form in ONNX, or that scores otherwise.
        ActionRequiredError: something else is in the folder.
    """
    if target.exists() and any(target.iterdir()) and not (target / MANIFEST).exists():
        raise ActionRequiredError(f"{target} is not empty, and is no export: remove it, or name another folder: TO=…")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as folder:
        path = Path(folder) / "export"
        for name, content in exported.files.contents.items():
            file = path / "mlflow" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        if (found := ModelFiles.within(path / "mlflow").digest) != exported.files.digest:
            raise ActionRequiredError(
                f"the copied files have the digest {found}, not {exported.files.digest}: is the disk full? Export again"
            )
        manifest = _manifest(exported) | (_write_onnx(exported, path) if with_onnx else {})
        (path / EXAMPLES).write_text(_json(_examples(exported)), encoding="utf-8")
        (path / MANIFEST).write_text(_json(manifest), encoding="utf-8")
        (path / "README.md").write_text(_readme(exported, manifest), encoding="utf-8")
        if target.exists():
            shutil.rmtree(target)
        path.rename(target)
    return manifest


def _manifest(exported: Exported) -> dict[str, Any]:
    model = exported.model
    return {
        **exported.about,
        "digest": exported.files.digest,
        "problem_type": model.problem_type,
        "inputs": {**dict.fromkeys(model.numeric, "number"), **dict.fromkeys(model.categorical, "label")},
        "output": OUTPUTS[model.problem_type],
        "classes": list(model.classes),
        "quantiles": list(model.quantiles) if model.problem_type == "quantile" else [],
        "decision_threshold": model.decision_threshold if model.problem_type == "binary" else None,
        "serialization": exported.serialization,
        "libraries": dict(model.libraries),
        "onnx": None,
    }


def _write_onnx(exported: Exported, path: Path) -> dict[str, Any]:
    from importlib.metadata import version

    from tools.export_model.compared import require_equal
    from tools.export_model.converted import convert

    converted, labels = convert(exported.model, str(exported.about["model"]))
    content = converted.SerializeToString(deterministic=True)
    compared = require_equal(content, exported.model, exported.reference, labels)
    (path / ONNX_FILE).write_bytes(content)
    return {
        "onnx": {
            "file": ONNX_FILE,
            "sha256": hashlib.sha256(content).hexdigest(),
            "operators": {each.domain or "ai.onnx": each.version for each in converted.opset_import},
            "made_with": {name: version(name) for name in ("onnx", "onnxruntime", "skl2onnx")},
            "compared": compared,
        }
    }


def _examples(exported: Exported) -> list[dict[str, Any]]:
    """Return reference rows with their scores; each column of them is shuffled by itself, so no row is about anyone."""
    rows = exported.reference.head(EXAMPLE_ROWS)
    inputs = rows.select(exported.model.inputs).to_dicts()
    scores = rows.select(pl.selectors.starts_with(REFERENCE_SCORE)).rows()
    return [
        {"inputs": {name: None if value != value else value for name, value in row.items()}, "scores": [*found]}
        for row, found in zip(inputs, scores, strict=True)
    ]


def _json(content: Any) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _readme(exported: Exported, manifest: Mapping[str, Any]) -> str:
    about = exported.about
    name = f"{about['model']} version {about['version']}"
    semantic = f" ({about['semantic_version']})" if about["semantic_version"] else ""
    lines = [
        f"# {name}{semantic}",
        "",
        f"{about['title']}. Scores are {manifest['output']}.",
        "",
        "| file | what it is |",
        "|---|---|",
        f"| `{MANIFEST}` | names, versions, digest, inputs, output, and how the export was compared |",
        f"| `{EXAMPLES}` | rows with the scores that they must have: check your program with them |",
        "| `mlflow/` | the files as the product stored them; their sha256 digest is that of the promotion history |",
    ]
    if manifest["onnx"]:
        compared = manifest["onnx"]["compared"]
        largest = max(compared["largest_difference"], compared["largest_difference_of_made_rows"])
        lines += [
            f"| `{ONNX_FILE}` | the same model for onnxruntime 1.20 or newer, in any language, without Python |",
            "",
            f"The ONNX model was compared on {compared['reference_rows']} stored reference rows and on",
            f"{compared['made_rows']} rows with missing values, unseen labels and numbers far out. The largest",
            f"difference of a score is {largest:.2g}.",
            "",
            "## ONNX",
            "",
            "Each input column is a tensor of its own (rows x 1): numbers are doubles, NaN for missing; labels are",
            'strings, "" for missing. The output `scores` (rows x outputs) is double.',
            "",
            "```python",
            "import json",
            "import numpy as np",
            "import onnxruntime",
            "",
            f'session = onnxruntime.InferenceSession("{ONNX_FILE}")',
            f'examples = json.load(open("{EXAMPLES}"))',
            f'kinds = json.load(open("{MANIFEST}"))["inputs"]',
            "given = {}",
            "for name, kind in kinds.items():",
            '    column = [row["inputs"][name] for row in examples]',
            '    if kind == "number":',
            "        values = np.array([np.nan if value is None else value for value in column], dtype=np.float64)",
            "    else:",
            '        values = np.array(["" if value is None else value for value in column], dtype=object)',
            "    given[name] = values.reshape(-1, 1)",
            'scores = session.run(["scores"], given)[0]',
            'assert np.allclose(scores, [row["scores"] for row in examples], rtol=1e-6, atol=1e-6)',
            "```",
        ]
    lines += ["", "## MLflow", "", *_of_mlflow(exported)]
    return "\n".join(lines) + "\n"


def _of_mlflow(exported: Exported) -> list[str]:
    method = {"binary": "predict_proba(rows)[:, 1]", "multiclass": "predict_proba(rows)", "quantile": "transform(rows)"}
    call = method.get(exported.model.problem_type, "predict(rows)")
    found = [
        "Install the versions in `mlflow/requirements.txt`. `rows` is a pandas frame with the inputs in the order of",
        f"`{MANIFEST}`: numbers as float64, labels as objects, None for a missing one.",
        "",
        "```python",
    ]
    if exported.serialization == "skops":
        found += [
            "import skops.io",
            "",
            "# Read the list before you trust it: loading builds these types.",
            'types = skops.io.get_untrusted_types(file="mlflow/model.skops")',
            'estimator = skops.io.load("mlflow/model.skops", trusted=types)',
        ]
    else:
        found += [
            "import cloudpickle",
            "",
            "# A pickle runs code when it is loaded: load it only if you trust where this folder came from.",
            'estimator = cloudpickle.load(open("mlflow/model.pkl", "rb"))',
        ]
    found += [f"scores = estimator.{call}", "```"]
    if exported.model.problem_type == "quantile":
        found += ["", "Sort the scores of each row: estimators of single quantiles can cross."]
    if exported.model.problem_type == "multiclass":
        found += ["", "`estimator.classes_` has the classes (or their numbers) in the order of these columns."]
    found += [
        "",
        "Declared candidates contain classes of the product (`include.training.transforms`), so loading them needs the",
        "product's code on the Python path. The ONNX model needs nothing of the product.",
    ]
    return found
