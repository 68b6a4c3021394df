"""Build an ONNX graph: numbers are always double, labels are strings, and a missing label is the empty string.

Converters of skl2onnx keep most numbers as float32, which differs from scikit-learn by more than 1e-6 and sends a row
to the other side of a split. So what the product's own estimators need is built here, and skl2onnx is asked for the
rest (`predictors.by_skl2onnx`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from include.core.errors import ActionRequiredError

OPSET, ML_OPSET = 21, 5
"""The versions of the operators: 5 is the first with trees of doubles that split sets of categories."""
ML = "ai.onnx.ml"
NO_LABEL = ""
"""What stands for a missing label: a string of ONNX is never null."""


class NotPortableError(ActionRequiredError):
    """A part of a model has no form in ONNX here; the text names it and says what to choose instead."""


@dataclass(frozen=True)
class ColumnBlock:
    """Columns in one tensor (rows x columns).

    Attributes:
        tensor: its name in the graph.
        names: those of its columns, as scikit-learn calls them.
        is_label: whether it has strings; else doubles.
    """

    tensor: str
    names: tuple[str, ...]
    is_label: bool = False


@dataclass
class Graph:
    """Nodes and constants, in the order in which they are added."""

    nodes: list[Any] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)
    inputs: list[Any] = field(default_factory=list)
    functions: list[Any] = field(default_factory=list)
    domains: dict[str, int] = field(default_factory=lambda: {"": OPSET, ML: ML_OPSET})
    labels: dict[str, list[str]] = field(default_factory=dict)
    """The labels that the model knows, by column: each is compared after the export."""

    def name(self, prefix: str = "t") -> str:
        """Return a name that is not used yet."""
        return f"{prefix}_{len(self.nodes)}_{len(self.constants)}"

    def add_input(self, name: str, *, is_label: bool) -> ColumnBlock:
        """Add a column of the model's input."""
        kind = TensorProto.STRING if is_label else TensorProto.DOUBLE
        self.inputs.append(helper.make_tensor_value_info(name, kind, ["rows", 1]))
        return ColumnBlock(name, (name,), is_label)

    def op(self, kind: str, *inputs: str, outputs: int = 1, domain: str = "", **attributes: Any) -> Any:
        """Add a node; return the name of its output, or of each if there are several."""
        names = [f"{self.name(kind)}_{n}" for n in range(outputs)]
        self.nodes.append(helper.make_node(kind, [*inputs], names, domain=domain, **attributes))
        return names[0] if outputs == 1 else names

    def constant(self, value: Any, dtype: Any = np.float64) -> str:
        """Add a constant."""
        name = self.name("constant")
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype=dtype), name))
        return name

    def strings(self, value: Sequence[str]) -> str:
        """Add a constant of labels (1 x labels)."""
        return self.constant([[*value]], object)

    def cast(self, tensor: str, to: int = TensorProto.DOUBLE) -> str:
        """Convert to another type, double by default."""
        found: str = self.op("Cast", tensor, to=to)
        return found

    def where(self, condition: str, then: str, otherwise: str) -> str:
        """Choose by row and column."""
        found: str = self.op("Where", condition, then, otherwise)
        return found

    def capped(self, tensor: str, low: Any = None, high: Any = None) -> str:
        """Bring numbers to limits. A missing number stays missing, which `Clip` does not promise."""
        for limit, beyond in ((low, "Less"), (high, "Greater")):
            if limit is not None:
                at = self.constant(limit)
                tensor = self.where(self.op(beyond, tensor, at), at, tensor)
        return tensor

    def is_missing(self, block: ColumnBlock) -> str:
        """Return a tensor of booleans: which values are missing."""
        if not block.is_label:
            found: str = self.op("IsNaN", block.tensor)
            return found
        return self.cast(self._numbered(block, [NO_LABEL], [1], 0), TensorProto.BOOL)

    def _numbered(self, block: ColumnBlock, labels: Sequence[str], numbers: Sequence[int], others: int) -> str:
        found: str = self.op("LabelEncoder", block.tensor, domain=ML, keys_strings=[*labels],
                             values_int64s=[*numbers], default_int64=others)  # fmt: skip
        return found

    def columns(self, frame: Iterable[ColumnBlock]) -> list[ColumnBlock]:
        """Return the columns of a frame, each in a block of its own."""
        found: list[ColumnBlock] = []
        for block in frame:
            if len(block.names) == 1:
                found.append(block)
                continue
            for n, name in enumerate(block.names):
                taken = self.op("Gather", block.tensor, self.constant([n], np.int64), axis=1)
                found.append(ColumnBlock(taken, (name,), block.is_label))
        return found

    def pick(self, frame: Sequence[ColumnBlock], positions: Sequence[int]) -> list[ColumnBlock]:
        """Return columns of a frame by position, in that order; columns that stay together stay one block."""
        starts = np.cumsum([0, *(len(block.names) for block in frame)])
        found: list[ColumnBlock] = []
        rest = [int(position) for position in positions]
        while rest:
            number = int(np.searchsorted(starts, rest[0], side="right")) - 1
            block, first, end = frame[number], int(starts[number]), int(starts[number + 1])
            inside = 1
            while inside < len(rest) and first <= rest[inside] < end:
                inside += 1
            taken, rest = [position - first for position in rest[:inside]], rest[inside:]
            if taken == [*range(len(block.names))]:
                found.append(block)
                continue
            tensor = self.op("Gather", block.tensor, self.constant(taken, np.int64), axis=1)
            found.append(ColumnBlock(tensor, tuple(block.names[n] for n in taken), block.is_label))
        return found

    def matrix(self, frame: Sequence[ColumnBlock], of: str) -> str:
        """Return all columns as one tensor of doubles.

        Raises:
            NotPortableError: there are labels left, or no columns.
        """
        if labels := [name for block in frame if block.is_label for name in block.names]:
            raise NotPortableError(f"{of} gets labels as they are ({', '.join(labels)}); encode them before")
        if not frame:
            raise NotPortableError(f"{of} gets no column")
        found: str = frame[0].tensor if len(frame) == 1 else self.op("Concat", *(b.tensor for b in frame), axis=1)
        return found

    def codes(self, block: ColumnBlock, known: Sequence[Any]) -> str:
        """Return for each value of a column its place in `known` (int64); the number of them for all others."""
        others = len(known)
        if block.is_label:
            keys = [NO_LABEL if _is_missing(each) else str(each) for each in known]
            if any(each == NO_LABEL and not _is_missing(was) for each, was in zip(keys, known, strict=True)):
                raise NotPortableError(
                    f"column {block.names[0]} has the empty label, which ONNX cannot tell from a missing one: land it "
                    "as missing"
                )
            self.labels.setdefault(block.names[0], [each for each in keys if each != NO_LABEL])
            return self._numbered(block, keys, range(others), others)
        numbers = [float("nan") if _is_missing(each) else float(each) for each in known]
        equal = self.cast(self.op("Equal", block.tensor, self.constant([numbers])))
        missing = self.op("Mul", self.cast(self.is_missing(block)), self.constant([np.isnan(numbers)]))
        found = self.op("Add", equal, missing)
        with_others = self.op("Concat", found, self.op(
            "Sub", self.constant([[1.0]]), self.op("ReduceMax", found, self.constant([1], np.int64), keepdims=1)
        ), axis=1)  # fmt: skip
        place: str = self.op("ArgMax", with_others, axis=1, keepdims=1)
        return place

    def rows_of(self, table: np.ndarray, codes: str) -> str:
        """Return for each code (rows x 1) the row of a table."""
        flat = self.op("Reshape", codes, self.constant([-1], np.int64))
        found: str = self.op("Gather", self.constant(table), flat, axis=0)
        return found

    def model(self, output: str, width: int, description: str) -> Any:
        """Return the model with one output, `scores` (rows x `width`, double)."""
        self.nodes.append(helper.make_node("Identity", [output], ["scores"]))
        scores = helper.make_tensor_value_info("scores", TensorProto.DOUBLE, ["rows", width])
        graph = helper.make_graph(self.nodes, "model", self.inputs, [scores], self.constants, doc_string=description)
        opsets = [helper.make_opsetid(domain, version) for domain, version in self.domains.items()]
        found = helper.make_model(graph, opset_imports=opsets, producer_name="nightly-ml", ir_version=10)
        onnx.checker.check_model(found)
        return found


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float | np.floating) and bool(np.isnan(value)))
