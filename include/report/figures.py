"""The charts of a training report. Pure; rows are always in bins, so that no point of a chart is one entity."""

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from include.report.measures import Dependence, ExpectedCost, Importance
from include.report.subject import ReportedVersion, ReportSubject
from nightly_pages.charts import Axis, Band, Bar, Series, bars, columns, heat, lines

BINS = 10
HISTOGRAM = 24
MAX_CURVE = 100
MAX_CLASSES = 6
MAX_HEAT = 12
MAX_BARS = 15


def versions(subject: ReportSubject) -> list[tuple[str, ReportedVersion]]:
    """Return the version and, if there is one, the champion, with their names in charts."""
    found = [(f"version {subject.challenger.version}", subject.challenger)]
    return found + ([(f"champion {subject.champion.version}", subject.champion)] if subject.champion else [])


def loss_by_day(subject: ReportSubject) -> Markup:
    """Return the loss on each holdout day."""
    days, at = np.unique(subject.days, return_inverse=True)
    count = np.bincount(at)
    scores = [(name, each.score) for name, each in versions(subject)] + [("dummy baseline", subject.dummy)]
    series = []
    for name, score in scores:
        mean = np.bincount(at, weights=subject.problem.loss_by_row(subject.truth, score)) / count
        series.append(Series(name, [(float(n), float(v)) for n, v in enumerate(mean)], marks=len(days) > 0))
    by = subject.problem.chosen_by
    return lines(
        "Loss by day.",
        f"{by} on each holdout day; lower is better. Days differ by what happened on them: compare the lines.",
        Axis("holdout day", names=[str(day) for day in days]),
        Axis(by, low=0),
        series,
    )


def quality_figures(subject: ReportSubject) -> list[Markup]:
    """Return the charts that fit the problem type."""
    problem = subject.problem
    if problem.kind == "binary":
        return [_roc(subject), _calibration(subject), _score_histogram(subject), _confusion(subject)]
    if not problem.predicts_numbers:
        return [_confusion(subject), _calibration_of_classes(subject)]
    limits = [_coverage(subject), _quantile_calibration(subject)] if subject.challenger.score.ndim == 2 else []
    return [*limits, _numeric_calibration(subject), _residuals(subject), _residual_histogram(subject)]


def roc_points(truth: np.ndarray, score: np.ndarray) -> list[tuple[float, float]]:
    """Return false and true positive rates at up to MAX_CURVE thresholds, from (0, 0) to (1, 1)."""
    if not len(truth):
        return []
    order = np.argsort(-score, kind="stable")
    hits, ranked = np.cumsum(truth[order] == 1.0), score[order]
    ends = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    true, false = hits[ends], ends + 1 - hits[ends]
    if true[-1] == 0 or false[-1] == 0:
        return []
    keep = np.unique(np.linspace(0, len(ends) - 1, MAX_CURVE).astype(int))
    return [(0.0, 0.0), *zip((false[keep] / false[-1]).tolist(), (true[keep] / true[-1]).tolist(), strict=True)]


def binned(by: np.ndarray, *values: np.ndarray, bins: int = BINS) -> list[tuple[float, ...]]:
    """Return for bins of equal count, in ascending order of `by`, its mean and the mean of each of `values`."""
    parts = [part for part in np.array_split(np.argsort(by, kind="stable"), bins) if len(part)]
    return [(float(by[part].mean()), *(float(each[part].mean()) for each in values)) for part in parts]


def _roc(subject: ReportSubject) -> Markup:
    series = [Series(name, roc_points(subject.truth, each.score)) for name, each in versions(subject)]
    if not series[0].points:
        series = []
    chance = Series("no skill", [(0.0, 0.0), (1.0, 1.0)], guide=True)
    return lines(
        "ROC curve.",
        "Share of the 1s found against share of the 0s that are called 1, at every threshold; the upper left is best.",
        Axis("false positive rate", 0, 1),
        Axis("true positive rate", 0, 1),
        [*series, chance] if series else [],
    )


def _calibration(subject: ReportSubject) -> Markup:
    series = [
        Series(name, [(b[0], b[1]) for b in binned(each.score, subject.truth)], marks=True)
        for name, each in versions(subject)
    ]
    return lines(
        "Calibration.",
        f"Share of 1s among {BINS} equal groups, by their mean score. On the diagonal, probabilities are right.",
        Axis("mean score"),
        Axis("share of outcomes that are 1", 0),
        [*series, _diagonal([p for each in series for p in each.points])],
    )


def _calibration_of_classes(subject: ReportSubject) -> Markup:
    names = subject.model.classes or tuple(map(str, range(subject.challenger.score.shape[1])))
    series = []
    for place, name in enumerate(names[:MAX_CLASSES]):
        is_class = (subject.truth == place).astype(np.float64)
        points = [(b[0], b[1]) for b in binned(subject.challenger.score[:, place], is_class)]
        series.append(Series(name, points, marks=True))
    return lines(
        "Calibration of each label.",
        f"For each label, its share among {BINS} groups of equal size, by their mean probability. On the diagonal, "
        "probabilities are right.",
        Axis("mean probability", 0),
        Axis("share of outcomes", 0),
        [*series, _diagonal([p for each in series for p in each.points])],
    )


def _score_histogram(subject: ReportSubject) -> Markup:
    score = subject.challenger.score
    edges = np.linspace(0, max(float(score.max()), 1e-9), HISTOGRAM + 1) if len(score) else np.array([0, 1.0])
    groups = [
        Series(name, _shares(score[subject.truth == value], edges))
        for name, value in (("outcome 0", 0.0), ("outcome 1", 1.0))
    ]
    return columns(
        "Scores by outcome.",
        "How the scores of rows with outcome 0 and 1 are spread; the further apart, the better the version tells them "
        f"apart. The decision threshold is {subject.challenger.decision_threshold:g}.",
        Axis("score", 0),
        Axis("share of rows", 0),
        edges.tolist(),
        groups,
    )


def _confusion(subject: ReportSubject) -> Markup:
    predicted = subject.problem.decide(subject.challenger.score, subject.challenger.decision_threshold)
    binary = subject.problem.kind == "binary"
    count = 2 if binary else subject.challenger.score.shape[1]
    names = ["0", "1"] if binary else [*subject.model.classes] or [str(n) for n in range(count)]
    table = np.zeros((count, count))
    np.add.at(table, (subject.truth.astype(int), predicted.astype(int)), 1)
    frequent = np.sort(np.argsort(-table.sum(axis=1), kind="stable")[:MAX_HEAT])
    about = "Rows are outcomes, columns are predictions, shares are of the row."
    if binary:
        about += f" A score of {subject.challenger.decision_threshold:g} or more is predicted as 1."
    if count > MAX_HEAT:
        about += f" The {MAX_HEAT} most frequent of {count} labels."
    return heat(
        "Confusion.",
        about,
        [f"outcome {names[n]}" for n in frequent],
        [f"predicted {names[n]}" for n in frequent],
        table[np.ix_(frequent, frequent)].tolist(),
    )


def _numeric_calibration(subject: ReportSubject) -> Markup:
    point = subject.problem.point
    series = [
        Series(name, [(b[0], b[1]) for b in binned(point(each.score), subject.truth)], marks=True)
        for name, each in versions(subject)
    ]
    return lines(
        "Predicted and actual.",
        f"Mean outcome of {BINS} groups of equal size, by their mean prediction. On the diagonal, the level is right. "
        "Predictions that aim at a median are below the mean of skewed outcomes.",
        Axis("mean prediction"),
        Axis("mean outcome"),
        [*series, _diagonal([p for each in series for p in each.points])],
    )


def _residuals(subject: ReportSubject) -> Markup:
    predicted = subject.problem.point(subject.challenger.score)
    error = predicted - subject.truth
    parts = [part for part in np.array_split(np.argsort(predicted, kind="stable"), BINS) if len(part)]
    band, middle = [], []
    for part in parts:
        low, half, high = np.quantile(error[part], [0.1, 0.5, 0.9])
        at = float(predicted[part].mean())
        band.append((at, float(low), float(high)))
        middle.append((at, float(half)))
    ends = [(middle[0][0], 0.0), (middle[-1][0], 0.0)] if middle else []
    return lines(
        "Errors by prediction.",
        "Prediction minus outcome: the median, and the middle 80 % of the rows. A slope or a funnel shows what the "
        "version does not know.",
        Axis("mean prediction"),
        Axis("prediction − outcome"),
        [Series("median error", middle, marks=True), Series("no error", ends, guide=True)],
        bands=[Band("middle 80 %", band)],
    )


def _residual_histogram(subject: ReportSubject) -> Markup:
    errors = [(name, subject.problem.point(each.score) - subject.truth) for name, each in versions(subject)]
    together = np.concatenate([each for _, each in errors])
    return _histogram(
        "Errors.",
        "How predictions minus outcomes are spread, from 1 % to 99 %; what is beyond is in the outer parts.",
        "prediction − outcome",
        together,
        errors,
    )


def _histogram(
    title: str, about: str, label: str, together: np.ndarray, groups: Sequence[tuple[str, np.ndarray]]
) -> Markup:
    low, high = np.quantile(together, [0.01, 0.99]) if len(together) else (0.0, 1.0)
    if low == high:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, HISTOGRAM + 1)
    series = [Series(name, _shares(np.clip(each, low, high), edges)) for name, each in groups]
    return columns(title, about, Axis(label), Axis("share of rows", 0), edges.tolist(), series)


def _coverage(subject: ReportSubject) -> Markup:
    days, at = np.unique(subject.days, return_inverse=True)
    count = np.bincount(at)
    quantiles = subject.model.quantiles
    series = []
    for name, each in versions(subject):
        inside = (each.score[:, 0] <= subject.truth) & (subject.truth <= each.score[:, -1])
        share = np.bincount(at, weights=inside) / count
        series.append(Series(name, [(float(n), float(v)) for n, v in enumerate(share)], marks=True))
    wanted = quantiles[-1] - quantiles[0]
    aim = Series("declared", [(0.0, wanted), (max(len(days) - 1.0, 0.1), wanted)], guide=True)
    return lines(
        "Coverage of the limits by day.",
        f"Share of outcomes between the lower and the upper limit; {wanted:.0%} is declared.",
        Axis("holdout day", names=[str(day) for day in days]),
        Axis("share of outcomes inside", 0, 1),
        [*series, aim],
    )


def _quantile_calibration(subject: ReportSubject) -> Markup:
    series = []
    for name, each in versions(subject):
        below = (subject.truth[:, None] < each.score) + 0.5 * (subject.truth[:, None] == each.score)
        reached = below.mean(axis=0)
        series.append(Series(name, list(zip(subject.model.quantiles, map(float, reached), strict=True)), marks=True))
    return lines(
        "Calibration of the quantiles.",
        "Share of outcomes up to each predicted quantile, by the quantile that is declared.",
        Axis("declared quantile", 0, 1),
        Axis("share of outcomes up to it", 0, 1),
        [*series, Series("right", [(0.0, 0.0), (1.0, 1.0)], guide=True)],
    )


def importance_figure(subject: ReportSubject, found: Sequence[Importance]) -> Markup:
    """Return the permutation importances, the largest first."""
    return bars(
        "Permutation importance.",
        f"By how much {subject.problem.chosen_by} rises if the values of one input are shuffled: mean, least and most. "
        f"The strongest {min(MAX_BARS, len(found))} of {len(found)} inputs. Inputs that say the same share their "
        "importance; one below 0 is noise.",
        f"rise of {subject.problem.chosen_by}",
        [Bar(each.name, each.mean, each.low, each.high) for each in found[:MAX_BARS]],
    )


def dependence_figure(subject: ReportSubject, found: Dependence) -> Markup:
    """Return what the version predicts on average along an input."""
    about = "Mean prediction if every row has this value."
    if found.name in subject.challenger.categorical:
        outputs = list(found.predicted.items())
        if len(outputs) == 1:
            name, values = outputs[0]
            labels = [subject.label(found.name, None if v is None else str(v)) for v in found.values]
            return bars(f"{found.name}.", about, name, [Bar(t, v) for t, v in zip(labels, values, strict=True)])
        labels = [subject.label(found.name, None if v is None else str(v)) for v in found.values]
        axis = Axis(found.name, names=labels, labels=True)
        places: Sequence[float] = range(len(labels))
    else:
        axis, places = Axis(found.name), [float(v) for v in found.values if isinstance(v, int | float)]
    series = [
        Series(name, [(float(x), y) for x, y in zip(places, values, strict=True)], marks=True)
        for name, values in list(found.predicted.items())[:MAX_CLASSES]
    ]
    label = "mean prediction" if subject.problem.predicts_numbers else "mean probability"
    return lines(f"{found.name}.", about, axis, Axis(label), series)


def move_figure(subject: ReportSubject, moved: np.ndarray) -> Markup:
    """Return how far scores are from the champion's."""
    label = (
        "total variation distance"
        if subject.challenger.score.ndim == 2 and not subject.problem.predicts_numbers
        else ("this version − champion")
    )
    return _histogram(
        "Difference to the champion.",
        "How far the predictions for the same rows are from the champion's, from 1 % to 99 %.",
        label,
        moved,
        [("all rows", moved)],
    )


def threshold_figure(cost: ExpectedCost, threshold: float) -> Markup:
    """Return the cost at each decision threshold; nothing where there is none."""
    if not cost.by_threshold:
        return Markup("")
    most = max(each[1] for each in cost.by_threshold)
    return lines(
        "Cost by threshold.",
        f"Mean cost of a prediction on the holdout days if another threshold decided. {threshold:g} is declared.",
        Axis("decision threshold", 0),
        Axis(f"{cost.unit} for each prediction", 0),
        [
            Series("this version", cost.by_threshold),
            Series("declared threshold", [(threshold, 0.0), (threshold, most)], guide=True),
        ],
    )


def _diagonal(points: Sequence[tuple[float, float]]) -> Series:
    ends = [value for point in points for value in point if np.isfinite(value)]
    low, high = (min(ends), max(ends)) if ends else (0.0, 1.0)
    return Series("right", [(low, low), (high, high)], guide=True)


def _shares(values: np.ndarray, edges: np.ndarray) -> list[tuple[float, float]]:
    counts = np.histogram(values, bins=edges)[0]
    total = max(int(counts.sum()), 1)
    return [(0.0, float(count) / total) for count in counts]
