"""Put a whole model together: inputs by name, the pipeline, and scores as the product has them."""

from typing import Any

import numpy as np

from include.io.registry.models import LoadedModel
from tools.export_model.graph import Graph, NotPortableError
from tools.export_model.predictors import predicted


def convert(model: LoadedModel, name: str) -> tuple[Any, dict[str, list[str]]]:
    """Return a model in ONNX, and the labels that it knows by column.

    Its inputs are one tensor for each column (rows x 1): doubles, NaN for missing, or strings, "" for missing. Its one
    output `scores` (rows x outputs) has the probability of 1, those of the classes in their order, the number, or the
    quantiles in ascending order.

    Raises:
        NotPortableError: a part of it has no form in ONNX.
    """
    graph = Graph()
    frame = [graph.add_input(column, is_label=column in model.categorical) for column in model.inputs]
    scores = predicted(graph, model.estimator, frame)
    scores, width = _as_the_product_has_them(graph, model, scores)
    return graph.model(scores, width, f"{name} ({model.problem_type})"), graph.labels


def _as_the_product_has_them(graph: Graph, model: LoadedModel, scores: str) -> tuple[str, int]:
    if model.problem_type == "binary":
        return graph.op("Gather", scores, graph.constant([1], np.int64), axis=1), 1
    if model.problem_type == "multiclass":
        classes, own = list(model.classes), model.estimator.classes_
        places = [classes.index(each) if isinstance(each, str) else int(each) for each in own]
        into = np.zeros((len(places), len(classes)))
        into[np.arange(len(places)), places] = 1.0
        return graph.op("MatMul", scores, graph.constant(into)), len(classes)
    if model.problem_type == "quantile":
        width = len(model.quantiles)
        values, _ = graph.op("TopK", scores, graph.constant([width], np.int64), outputs=2, axis=1, largest=0, sorted=1)
        return values, width
    if model.problem_type not in ("regression", "count"):
        raise NotPortableError(f"the problem type {model.problem_type} has no form in ONNX here")
    return scores, 1
