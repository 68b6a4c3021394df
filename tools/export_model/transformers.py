"""What each transformer becomes in ONNX. One function a class; `TRANSFORMERS` has them.

What an encoder does with labels is not read from its attributes: the encoder itself encodes each label that it knows, a
missing and an unseen one, and its answers become a table.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from feature_engine.encoding import CountFrequencyEncoder
from sklearn.compose import ColumnTransformer
from sklearn.feature_selection import SelectorMixin
from sklearn.impute import SimpleImputer
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
    TargetEncoder,
)
from sklearn.utils.validation import check_array

from include.training.transforms import fitted
from tools.export_model.graph import ML, NO_LABEL, ColumnBlock, Graph, NotPortableError

Frame = list[ColumnBlock]
Convert = Callable[[Graph, Any, Frame, str], Frame]
UNSEEN = "a label that no fit ever saw"
UNSEEN_NUMBER = -1e300
CHOOSE = "choose transforms and estimators that docs/portable-models.md lists"


def transformed(graph: Graph, estimator: Any, frame: Frame, where: str) -> Frame:
    """Return the columns of a frame after a fitted transformer.

    Args:
        graph: what is added to.
        estimator: the transformer, `passthrough`, `drop` or None.
        frame: its columns.
        where: the place in the pipeline, for messages.

    Raises:
        NotPortableError: it has no form in ONNX.
    """
    if estimator is None or isinstance(estimator, str):
        return [] if estimator == "drop" else frame
    where = f"{where} ({type(estimator).__name__})"
    if isinstance(estimator, SelectorMixin):
        return graph.pick(frame, np.flatnonzero(estimator.get_support()).tolist())
    convert = TRANSFORMERS.get(type(estimator))
    if convert is None:
        raise NotPortableError(f"{where} does not convert to ONNX: {CHOOSE}")
    return convert(graph, estimator, frame, where)


def names_of(frame: Frame) -> list[str]:
    """Return the names of the columns."""
    return [name for block in frame for name in block.names]


def _pipeline(graph: Graph, estimator: Pipeline, frame: Frame, where: str) -> Frame:
    for name, step in estimator.steps:
        frame = transformed(graph, step, frame, f"{where}, {name}")
    return frame


def _union(graph: Graph, estimator: FeatureUnion, frame: Frame, where: str) -> Frame:
    if estimator.transformer_weights:
        raise NotPortableError(f"{where} has weights: scale the columns instead")
    return [
        block
        for name, each in estimator.transformer_list
        for block in transformed(graph, each, frame, f"{where}, {name}")
    ]


def _columns(graph: Graph, estimator: ColumnTransformer, frame: Frame, where: str) -> Frame:
    found: Frame = []
    for name, each, _ in estimator.transformers_:
        # The positions of its columns, whatever way they were named; no public attribute has them.
        positions = [*estimator._transformer_to_input_indices[name]]
        if positions:
            found += transformed(graph, each, graph.pick(frame, positions), f"{where}, {name}")
    try:
        names = [str(name) for name in estimator.get_feature_names_out()]
    except (AttributeError, ValueError):  # a transformer inside gives no names
        return found
    if len(names) != len(names_of(found)):
        raise NotPortableError(f"{where} makes {len(names)} columns, and ONNX would have {len(names_of(found))}")
    named: Frame = []
    for block in found:
        own, names = names[: len(block.names)], names[len(block.names) :]
        named.append(ColumnBlock(block.tensor, tuple(own), block.is_label))
    return named


def _function(graph: Graph, estimator: FunctionTransformer, frame: Frame, where: str) -> Frame:
    func = estimator.func
    func = getattr(func, "func", func)  # functools.partial
    if func in (None, fitted.as_categories, check_array):
        return frame
    if func in (fitted.within_range, fitted.as_array):
        return [
            ColumnBlock(graph.capped(b.tensor, -fitted.LARGEST, fitted.LARGEST), b.names)
            for b in _numbers(frame, where)
        ]
    if func is fitted.signed_log:
        found = []
        for block in _numbers(frame, where):
            logarithm = graph.op("Log", graph.op("Add", graph.op("Abs", block.tensor), graph.constant(1.0)))
            found.append(ColumnBlock(graph.op("Mul", graph.op("Sign", block.tensor), logarithm), block.names))
        return found
    raise NotPortableError(f"{where} calls {getattr(func, '__name__', func)}, which has no form in ONNX: {CHOOSE}")


def _numbers(frame: Frame, where: str) -> Frame:
    if labels := [name for block in frame if block.is_label for name in block.names]:
        raise NotPortableError(f"{where} gets labels: {', '.join(labels)}")
    return frame


def _simple_imputer(graph: Graph, estimator: SimpleImputer, frame: Frame, where: str) -> Frame:
    missing = estimator.missing_values
    if not (missing is None or missing is pd.NA or (isinstance(missing, float) and np.isnan(missing))):
        raise NotPortableError(f"{where} fills {missing!r} in: only missing values can be")
    columns = graph.columns(frame)
    found = []
    for block, value in zip(columns, estimator.statistics_, strict=True):
        if not block.is_label and isinstance(value, float) and np.isnan(value):
            continue  # a column without any value, which is left out without keep_empty_features
        found.append(_filled(graph, block, value))
    if estimator.add_indicator:
        indicated = [columns[n] for n in estimator.indicator_.features_]
        found += [_indicator(graph, block, f"missingindicator_{block.names[0]}") for block in indicated]
    return found


def _filled(graph: Graph, block: ColumnBlock, value: Any) -> ColumnBlock:
    const = graph.strings([str(value)]) if block.is_label else graph.constant([[float(value)]])
    return ColumnBlock(graph.where(graph.is_missing(block), const, block.tensor), block.names, block.is_label)


def _indicator(graph: Graph, block: ColumnBlock, name: str) -> ColumnBlock:
    return ColumnBlock(graph.cast(graph.is_missing(block)), (name,))


def _imputer(graph: Graph, estimator: fitted.Imputer, frame: Frame, where: str) -> Frame:
    if estimator.by == "random_sample":
        raise NotPortableError(
            f"{where} draws by a hash of the row, which has no form in ONNX: declare {{kind: impute, by: median}}"
        )
    columns = graph.columns(frame)
    found = [_filled(graph, c, estimator.fill_[c.names[0]][0]) if c.names[0] in estimator.fill_ else c for c in columns]
    by_name = {column.names[0]: column for column in columns}
    return found + [_indicator(graph, by_name[name], f"{name}_is_missing") for name in estimator.indicated_]


def _affine(graph: Graph, frame: Frame, where: str, minus: Any, by: Any) -> Frame:
    tensor = graph.matrix(frame, where)
    if minus is not None:
        tensor = graph.op("Sub", tensor, graph.constant([minus]))
    if by is not None:
        tensor = graph.op("Div", tensor, graph.constant([by]))
    return [ColumnBlock(tensor, tuple(names_of(frame)))]


def _standard(graph: Graph, estimator: StandardScaler, frame: Frame, where: str) -> Frame:
    return _affine(graph, frame, where, estimator.mean_ if estimator.with_mean else None, estimator.scale_)


def _robust(graph: Graph, estimator: RobustScaler, frame: Frame, where: str) -> Frame:
    return _affine(graph, frame, where, estimator.center_, estimator.scale_)


def _range(graph: Graph, estimator: MinMaxScaler, frame: Frame, where: str) -> Frame:
    tensor = graph.op("Mul", graph.matrix(frame, where), graph.constant([estimator.scale_]))
    tensor = graph.op("Add", tensor, graph.constant([estimator.min_]))
    if estimator.clip:
        tensor = graph.capped(tensor, *estimator.feature_range)
    return [ColumnBlock(tensor, tuple(names_of(frame)))]


def _ranks(graph: Graph, estimator: QuantileTransformer, frame: Frame, where: str) -> Frame:
    if estimator.output_distribution != "uniform":
        raise NotPortableError(f"{where} has a normal output; choose the uniform one")
    found = []
    references = np.asarray(estimator.references_)
    for block, quantiles in zip(graph.columns(_numbers(frame, where)), estimator.quantiles_.T, strict=True):
        forward = _interpolated(graph, block.tensor, quantiles, references)
        backward = _interpolated(graph, graph.op("Neg", block.tensor), -quantiles[::-1], -references[::-1])
        tensor = graph.op("Mul", graph.op("Sub", forward, backward), graph.constant(0.5))
        for end, value in ((quantiles[-1], 1.0), (quantiles[0], 0.0)):
            at_end = graph.op("Equal", block.tensor, graph.constant([[end]]))
            tensor = graph.where(at_end, graph.constant([[value]]), tensor)
        # `np.interp` of a missing number would be an end.
        tensor = graph.where(graph.is_missing(block), block.tensor, tensor)
        found.append(ColumnBlock(tensor, block.names))
    return found


def _interpolated(graph: Graph, tensor: str, at: np.ndarray, values: np.ndarray) -> str:
    """Return what `np.interp` does with a column."""
    reached = graph.cast(graph.op("GreaterOrEqual", tensor, graph.constant([at])))
    count = graph.op("ReduceSum", reached, graph.constant([1], np.int64), keepdims=1)
    place = graph.cast(graph.capped(graph.op("Sub", count, graph.constant(1.0)), 0.0, float(len(at) - 2)), 7)  # int64
    width = np.diff(at)
    slope = np.divide(np.diff(values), width, out=np.zeros_like(width), where=width > 0)
    start, rise, base = (graph.rows_of(each.reshape(-1, 1), place) for each in (at[:-1], slope, values[:-1]))
    inside = graph.op("Add", graph.op("Mul", rise, graph.op("Sub", tensor, start)), base)
    below = graph.op("Less", tensor, graph.constant([[at[0]]]))
    above = graph.op("GreaterOrEqual", tensor, graph.constant([[at[-1]]]))
    inside = graph.where(below, graph.constant([[values[0]]]), inside)
    return graph.where(above, graph.constant([[values[-1]]]), inside)


def _power(graph: Graph, estimator: PowerTransformer, frame: Frame, where: str) -> Frame:
    if estimator.method != "yeo-johnson":
        raise NotPortableError(f"{where} uses {estimator.method}; choose yeo-johnson")
    found = []
    for block, power in zip(graph.columns(_numbers(frame, where)), estimator.lambdas_, strict=True):
        up = graph.op("Add", graph.op("Abs", block.tensor), graph.constant(1.0))

        def raised(base: str, power: float) -> str:
            if abs(power) < np.spacing(1.0):
                logarithm: str = graph.op("Log", base)
                return logarithm
            powered = graph.op("Sub", graph.op("Pow", base, graph.constant(power)), graph.constant(1.0))
            result: str = graph.op("Div", powered, graph.constant(power))
            return result

        positive, negative = raised(up, float(power)), graph.op("Neg", raised(up, float(2 - power)))
        is_positive = graph.op("GreaterOrEqual", block.tensor, graph.constant(0.0))
        tensor = graph.where(is_positive, positive, negative)
        found.append(ColumnBlock(graph.where(graph.is_missing(block), block.tensor, tensor), block.names))
    if not estimator.standardize:
        return found
    return _standard(graph, estimator._scaler, found, where)  # its only place


def _capper(graph: Graph, estimator: fitted.Capper, frame: Frame, where: str) -> Frame:
    columns = graph.columns(_numbers(frame, where))
    return [ColumnBlock(graph.capped(c.tensor, *estimator.limits_[c.names[0]]), c.names) for c in columns]


def _discretiser(graph: Graph, estimator: fitted.Discretiser, frame: Frame, where: str) -> Frame:
    found = []
    for block in graph.columns(_numbers(frame, where)):
        edges = estimator.edges_[block.names[0]] or [float("inf")]
        reached = graph.cast(graph.op("GreaterOrEqual", block.tensor, graph.constant([edges])))
        count = graph.op("ReduceSum", reached, graph.constant([1], np.int64), keepdims=1)
        found.append(ColumnBlock(graph.where(graph.is_missing(block), block.tensor, count), block.names))
    return found


def _choice(graph: Graph, estimator: fitted.ColumnChoice, frame: Frame, where: str) -> Frame:
    names = names_of(frame)
    return graph.pick(frame, [names.index(name) for name in estimator.kept_])


def _rare(graph: Graph, estimator: fitted.RareLabelReplacer, frame: Frame, where: str) -> Frame:
    found = []
    for block in graph.columns(frame):
        kept = [*estimator.frequent_[block.names[0]], NO_LABEL]
        graph.labels.setdefault(block.names[0], kept[:-1])
        tensor = graph.op("LabelEncoder", block.tensor, domain=ML, keys_strings=kept, values_strings=kept,
                          default_string=estimator.label)  # fmt: skip
        found.append(ColumnBlock(tensor, block.names, is_label=True))
    return found


def _asked(estimator: Any, frame: Frame, column: int, known: Sequence[Any], base: Sequence[Any]) -> np.ndarray:
    """Return what an encoder makes of each known value of a column and of an unseen one, others being `base`."""
    is_label = [block.is_label for block in frame]
    unseen = UNSEEN if is_label[column] else UNSEEN_NUMBER
    rows = pd.DataFrame({n: [value] * (len(known) + 1) for n, value in enumerate(base)})
    values = [None if (isinstance(each, float) and np.isnan(each)) else each for each in known]
    rows[column] = pd.Series([*values, unseen], dtype=object if is_label[column] else float)
    for n, label in enumerate(is_label):
        rows[n] = rows[n].astype(object if label else float)
    rows.columns = pd.Index(names_of(frame))
    by_name = hasattr(estimator, "feature_names_in_")
    found = estimator.transform(rows if by_name else rows.to_numpy(dtype=object if any(is_label) else float))
    found = found.toarray() if hasattr(found, "toarray") else found
    return np.asarray(found, dtype=np.float64)


def _with_missing(known: Sequence[Any], *, is_label: bool) -> list[Any]:
    """Return the known values with the missing one, which the encoder is asked about too."""
    there = [each for each in known if not (each is None or (isinstance(each, float) and np.isnan(each)))]
    return [*there, None if is_label else float("nan")]


def _encoded(graph: Graph, estimator: Any, frame: Frame, known: Sequence[Sequence[Any]]) -> Frame:
    """Return a table's answer for each column; an encoder makes equally many columns of each."""
    columns = graph.columns(frame)
    base = [UNSEEN if column.is_label else UNSEEN_NUMBER for column in columns]
    found = []
    for n, (column, values) in enumerate(zip(columns, known, strict=True)):
        asked = _with_missing(values, is_label=column.is_label)
        table = _asked(estimator, columns, n, asked, base)
        width = table.shape[1] // len(columns)
        tensor = graph.rows_of(table[:, n * width : (n + 1) * width], graph.codes(column, asked))
        names = column.names if width == 1 else tuple(f"{column.names[0]}_{m}" for m in range(width))
        found.append(ColumnBlock(tensor, names))
    return found


def _ordinal(graph: Graph, estimator: OrdinalEncoder, frame: Frame, where: str) -> Frame:
    if estimator.handle_unknown != "use_encoded_value":
        raise NotPortableError(f"{where} raises an error at an unseen label, and ONNX cannot: use_encoded_value")
    return _encoded(graph, estimator, frame, estimator.categories_)


def _target(graph: Graph, estimator: TargetEncoder, frame: Frame, where: str) -> Frame:
    return _encoded(graph, estimator, frame, estimator.categories_)


def _counts(graph: Graph, estimator: CountFrequencyEncoder, frame: Frame, where: str) -> Frame:
    known = [[*estimator.encoder_dict_.get(name, {})] for name in names_of(frame)]
    return _encoded(graph, estimator, frame, known)


def _one_hot(graph: Graph, estimator: OneHotEncoder, frame: Frame, where: str) -> Frame:
    if estimator.handle_unknown not in ("ignore", "infrequent_if_exist"):
        raise NotPortableError(f"{where} raises an error at an unseen label, and ONNX cannot: infrequent_if_exist")
    columns = graph.columns(frame)
    base = [UNSEEN if column.is_label else UNSEEN_NUMBER for column in columns]
    tensor = None
    for n, (column, values) in enumerate(zip(columns, estimator.categories_, strict=True)):
        asked = _with_missing(values, is_label=column.is_label)
        table = _asked(estimator, columns, n, asked, base)
        if n:
            table = table - table[-1]  # what the other columns add is in the first table
        part = graph.rows_of(table, graph.codes(column, asked))
        tensor = part if tensor is None else graph.op("Add", tensor, part)
    if tensor is None:
        return []
    return [ColumnBlock(tensor, tuple(map(str, estimator.get_feature_names_out(names_of(frame)))))]


TRANSFORMERS: dict[type, Convert] = {
    ColumnTransformer: _columns,
    CountFrequencyEncoder: _counts,
    FeatureUnion: _union,
    FunctionTransformer: _function,
    MinMaxScaler: _range,
    OneHotEncoder: _one_hot,
    OrdinalEncoder: _ordinal,
    Pipeline: _pipeline,
    PowerTransformer: _power,
    QuantileTransformer: _ranks,
    RobustScaler: _robust,
    SimpleImputer: _simple_imputer,
    StandardScaler: _standard,
    TargetEncoder: _target,
    fitted.Capper: _capper,
    fitted.ColumnChoice: _choice,
    fitted.Discretiser: _discretiser,
    fitted.Imputer: _imputer,
    fitted.RareLabelReplacer: _rare,
}
