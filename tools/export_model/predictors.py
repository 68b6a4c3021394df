"""What each estimator becomes in ONNX: a tensor of scores (rows x outputs). `PREDICTORS` has a function a class.

A class that is not here goes to skl2onnx, with doubles; `compared` says whether that scores as scikit-learn does.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import TensorProto, compose, helper, numpy_helper
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
    VotingRegressor,
)
from sklearn.linear_model import (
    ElasticNet,
    GammaRegressor,
    HuberRegressor,
    Lasso,
    LinearRegression,
    LogisticRegression,
    PoissonRegressor,
    QuantileRegressor,
    Ridge,
    SGDRegressor,
    TweedieRegressor,
)
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler, RobustScaler, StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from tools.export_model.graph import ML, Graph, NotPortableError
from tools.export_model.transformers import CHOOSE, Frame, transformed

Predict = Callable[[Graph, Any, Frame, str], str]
UP_TO, AMONG = 0, 6  # modes of a split of TreeEnsemble: `<=`, and whether it is one of a set
MISSING_CODE = -1.0
"""What stands for a missing category in a tree: a set of ONNX cannot have NaN in it."""


def predicted(graph: Graph, estimator: Any, frame: Frame, where: str = "pipeline") -> str:
    """Return the tensor of what a fitted estimator predicts: probabilities of a classifier, else numbers.

    Raises:
        NotPortableError: it, or a transformer before it, has no form in ONNX.
    """
    if type(estimator) is Pipeline:
        for name, step in estimator.steps[:-1]:
            frame = transformed(graph, step, frame, f"step {name}")
        return predicted(graph, estimator.steps[-1][1], frame, f"step {estimator.steps[-1][0]}")
    where = f"{where} ({type(estimator).__name__})"
    return PREDICTORS.get(type(estimator), by_skl2onnx)(graph, estimator, frame, where)


def _linear(graph: Graph, estimator: Any, frame: Frame, where: str) -> str:
    weights = np.atleast_2d(estimator.coef_).T
    products = graph.op("MatMul", graph.matrix(frame, where), graph.constant(weights))
    found: str = graph.op("Add", products, graph.constant(np.reshape(estimator.intercept_, (1, -1))))
    return found


def _exponential(graph: Graph, estimator: Any, frame: Frame, where: str) -> str:
    if isinstance(estimator, TweedieRegressor) and estimator.link != "log":
        raise NotPortableError(f"{where} has the link {estimator.link}: {CHOOSE}")
    found: str = graph.op("Exp", _linear(graph, estimator, frame, where))
    return found


def _logistic(graph: Graph, estimator: LogisticRegression, frame: Frame, where: str) -> str:
    return _probabilities(graph, _linear(graph, estimator, frame, where), len(estimator.classes_))


def _probabilities(graph: Graph, raw: str, classes: int) -> str:
    if classes > 2:
        found: str = graph.op("Softmax", raw, axis=1)
        return found
    # Both from the exponential itself: the operator Sigmoid is not exact for doubles everywhere.
    one = graph.constant(1.0)
    second = graph.op("Div", one, graph.op("Add", one, graph.op("Exp", graph.op("Neg", raw))))
    both: str = graph.op("Concat", graph.op("Sub", one, second), second, axis=1)
    return both


def _scaled_outcome(graph: Graph, estimator: TransformedTargetRegressor, frame: Frame, where: str) -> str:
    scale, found = estimator.transformer_, predicted(graph, estimator.regressor_, frame, where)
    if type(scale) is StandardScaler:
        by, plus = scale.scale_, scale.mean_ if scale.with_mean else None
    elif type(scale) is RobustScaler:
        by, plus = scale.scale_, scale.center_
    elif type(scale) is MinMaxScaler:
        by, plus = 1 / scale.scale_, -scale.min_ / scale.scale_
    else:
        raise NotPortableError(f"{where} transforms the outcome with {type(scale).__name__}: use StandardScaler")
    if by is not None:
        found = graph.op("Mul", found, graph.constant([by]))
    return found if plus is None else graph.op("Add", found, graph.constant([plus]))


def _side_by_side(graph: Graph, estimator: VotingRegressor, frame: Frame, where: str) -> str:
    """Return the predictions beside each other: the quantiles of a model; `transform` of this class gives them."""
    parts = [predicted(graph, each, frame, where) for each in estimator.estimators_]
    found: str = graph.op("Concat", *parts, axis=1)
    return found


@dataclass
class _Trees:
    """The attributes of the operator TreeEnsemble (ai.onnx.ml, version 5), tree by tree."""

    outputs: int
    base: np.ndarray = field(init=False)
    nodes: dict[str, list[Any]] = field(init=False)
    roots: list[int] = field(default_factory=list)
    members: list[float] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        names = ("feature", "mode", "split", "yes", "yes_is_leaf", "no", "no_is_leaf", "missing_is_yes")
        self.base, self.nodes = np.zeros(self.outputs), {name: [] for name in names}

    def leaf(self, values: Sequence[tuple[int, float]]) -> int:
        """Add a leaf, and return its place."""
        ((target, weight),) = values
        self.targets.append(target)
        self.weights.append(weight)
        return len(self.targets) - 1

    def split(self, feature: int, threshold: float, among: Sequence[float] | None, *, missing_is_yes: bool) -> int:
        """Add a split without its branches, and return its place."""
        self.nodes["feature"].append(feature)
        self.nodes["mode"].append(UP_TO if among is None else AMONG)
        self.nodes["split"].append(threshold)
        self.nodes["missing_is_yes"].append(int(missing_is_yes))
        for name in ("yes", "yes_is_leaf", "no", "no_is_leaf"):
            self.nodes[name].append(0)
        if among is not None:
            self.members += [*among, float("nan")]  # NaN ends the set of each split
        return len(self.nodes["feature"]) - 1

    def branch(self, parent: int, side: str, place: int, *, is_leaf: bool) -> None:
        """Set a branch of a split."""
        self.nodes[side][parent], self.nodes[f"{side}_is_leaf"][parent] = place, int(is_leaf)

    def scores(self, graph: Graph, matrix: str) -> str:
        """Return the sum of all trees (rows x outputs)."""
        base = graph.constant([self.base])
        if not self.roots:
            rows = graph.op("ReduceSum", matrix, graph.constant([1], np.int64), keepdims=1)
            is_nothing = graph.op("IsNaN", rows)
            found: str = graph.where(is_nothing, base, base)  # one row of the base for each row
            return found
        nodes = self.nodes
        attributes: dict[str, Any] = {
            "nodes_featureids": nodes["feature"],
            "nodes_modes": numpy_helper.from_array(np.array(nodes["mode"], np.uint8)),
            "nodes_splits": numpy_helper.from_array(np.array(nodes["split"], np.float64)),
            "nodes_truenodeids": nodes["yes"],
            "nodes_trueleafs": nodes["yes_is_leaf"],
            "nodes_falsenodeids": nodes["no"],
            "nodes_falseleafs": nodes["no_is_leaf"],
            "nodes_missing_value_tracks_true": nodes["missing_is_yes"],
            "leaf_targetids": self.targets,
            "leaf_weights": numpy_helper.from_array(np.array(self.weights, np.float64)),
            "tree_roots": self.roots,
            "n_targets": self.outputs,
            "aggregate_function": 1,
            "post_transform": 0,
        }
        if self.members:
            attributes["membership_values"] = numpy_helper.from_array(np.array(self.members, np.float64))
        summed: str = graph.op("Add", graph.op("TreeEnsemble", matrix, domain=ML, **attributes), base)
        return summed


def _boosted(graph: Graph, estimator: Any, frame: Frame, where: str) -> str:
    is_category = np.zeros(estimator.n_features_in_, dtype=bool)
    if (prepare := estimator._preprocessor) is not None:  # its only place: how it orders columns and counts categories
        frame = transformed(graph, prepare, frame, where)
        is_category = np.sort(estimator.is_categorical_)[::-1]  # categories come first there
    matrix = graph.matrix(frame, where)
    if is_category.any():
        lost = graph.op("And", graph.op("IsNaN", matrix), graph.constant([is_category], bool))
        matrix = graph.where(lost, graph.constant(MISSING_CODE), matrix)
    trees = _Trees(estimator.n_trees_per_iteration_)
    trees.base += np.ravel(estimator._baseline_prediction)  # its only place, as are the trees
    for of_one_iteration in estimator._predictors:
        for target, tree in enumerate(of_one_iteration):
            _add_histogram_tree(trees, tree, target)
    raw = trees.scores(graph, matrix)
    if isinstance(estimator, HistGradientBoostingClassifier):
        return _probabilities(graph, raw, len(estimator.classes_))
    if estimator.loss in ("poisson", "gamma"):
        raw = graph.op("Exp", raw)
    return raw


def _add_histogram_tree(trees: _Trees, tree: Any, target: int) -> None:
    nodes = tree.nodes

    def add(number: int) -> tuple[int, bool]:
        node = nodes[number]
        if node["is_leaf"]:
            return trees.leaf([(target, float(node["value"]))]), True
        missing_is_yes, among = bool(node["missing_go_to_left"]), None
        if node["is_categorical"]:
            bits = tree.raw_left_cat_bitsets[node["bitset_idx"]]
            among = [float(n) for n in range(32 * len(bits)) if int(bits[n // 32]) >> (n % 32) & 1]
            among += [MISSING_CODE] if missing_is_yes else []
            missing_is_yes = False  # a missing category is a member of its own
        place = trees.split(
            int(node["feature_idx"]), float(node["num_threshold"]), among, missing_is_yes=missing_is_yes
        )
        for side, child in (("yes", node["left"]), ("no", node["right"])):
            where, is_leaf = add(int(child))
            trees.branch(place, side, where, is_leaf=is_leaf)
        return place, False

    if nodes[0]["is_leaf"]:
        trees.base[target] += float(nodes[0]["value"])
    else:
        trees.roots.append(add(0)[0])


def _forest(graph: Graph, estimator: Any, frame: Frame, where: str) -> str:
    """Return the mean of all trees. They compare with numbers of float32, as scikit-learn makes them."""
    matrix = graph.cast(graph.cast(graph.matrix(frame, where), TensorProto.FLOAT))
    own = [estimator] if not hasattr(estimator, "estimators_") else estimator.estimators_
    is_classifier, outputs = hasattr(estimator, "classes_"), len(getattr(estimator, "classes_", [0]))
    parts = []
    for target in range(outputs):  # an ensemble for each class: a leaf of TreeEnsemble has one target
        trees = _Trees(1)
        for each in own:
            _add_tree(trees, each.tree_, target, len(own), is_classifier=is_classifier)
        parts.append(trees.scores(graph, matrix))
    found: str = parts[0] if len(parts) == 1 else graph.op("Concat", *parts, axis=1)
    return found


def _add_tree(trees: _Trees, tree: Any, target: int, among: int, *, is_classifier: bool) -> None:
    values = tree.value[:, 0, :]
    if is_classifier:
        values = values / values.sum(axis=1, keepdims=True)

    def add(number: int) -> tuple[int, bool]:
        if tree.children_left[number] == -1:
            return trees.leaf([(0, float(values[number, target]) / among)]), True
        place = trees.split(
            int(tree.feature[number]), float(tree.threshold[number]), None,
            missing_is_yes=bool(tree.missing_go_to_left[number]),
        )  # fmt: skip
        for side, child in (("yes", tree.children_left[number]), ("no", tree.children_right[number])):
            where, is_leaf = add(int(child))
            trees.branch(place, side, where, is_leaf=is_leaf)
        return place, False

    if tree.children_left[0] == -1:
        trees.base[0] += float(values[0, target]) / among
    else:
        trees.roots.append(add(0)[0])


def by_skl2onnx(graph: Graph, estimator: Any, frame: Frame, where: str) -> str:
    """Return what skl2onnx makes of an estimator that is not known here, with doubles for its input."""
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import DoubleTensorType
    from skl2onnx.common.exceptions import MissingConverter, MissingShapeCalculator

    matrix = graph.matrix(frame, where)
    width = sum(len(block.names) for block in frame)
    try:
        model = to_onnx(
            estimator,
            initial_types=[("X", DoubleTensorType([None, width]))],
            options={id(estimator): {"zipmap": False}} if hasattr(estimator, "classes_") else None,
            target_opset={"": 21, ML: 3},
        )
    except (MissingConverter, MissingShapeCalculator) as error:
        raise NotPortableError(f"{where} does not convert to ONNX: {CHOOSE}") from error
    except Exception as error:  # whatever a converter meets in a class or a version that it was not made for
        why = str(error).strip().split("\n")[0]
        raise NotPortableError(f"{where} does not convert to ONNX ({type(error).__name__}: {why}): {CHOOSE}") from error
    prefix = graph.name("skl2onnx")
    part = compose.add_prefix(model, f"{prefix}_").graph
    graph.nodes += [helper.make_node("Identity", [matrix], [part.input[0].name]), *part.node]
    graph.constants += part.initializer
    for used in model.opset_import:
        if used.domain not in graph.domains:
            graph.domains[used.domain] = used.version
    return graph.cast(part.output[-1].name)


PREDICTORS: dict[type, Predict] = {
    **dict.fromkeys(
        (ElasticNet, HuberRegressor, Lasso, LinearRegression, QuantileRegressor, Ridge, SGDRegressor), _linear
    ),
    **dict.fromkeys((PoissonRegressor, GammaRegressor, TweedieRegressor), _exponential),
    **dict.fromkeys((HistGradientBoostingClassifier, HistGradientBoostingRegressor), _boosted),
    **dict.fromkeys(
        (
            DecisionTreeClassifier,
            DecisionTreeRegressor,
            ExtraTreesClassifier,
            ExtraTreesRegressor,
            RandomForestClassifier,
            RandomForestRegressor,
        ),
        _forest,
    ),
    LogisticRegression: _logistic,
    TransformedTargetRegressor: _scaled_outcome,
    VotingRegressor: _side_by_side,
}
