"""Lineage as a tree of text for people. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date

from include.core.interval import Interval
from include.core.lineage import BatchLine, DeliveryLineage, PredictionLineage, UsedDay, UsedDelivery, VersionLineage

MAX_NAMED = 10  # corrections that a line names


@dataclass(frozen=True)
class Branch:
    """A line, and the lines below it."""

    text: str
    below: "Sequence[Branch | str]" = ()


def lines(branch: Branch) -> list[str]:
    """Return a tree as lines of text."""
    return [branch.text, *_below(branch, "")]


def _below(branch: Branch, indent: str) -> list[str]:
    found = []
    for number, each in enumerate(branch.below, 1):
        own, is_last = Branch(each) if isinstance(each, str) else each, number == len(branch.below)
        found.append(f"{indent}{'└─ ' if is_last else '├─ '}{own.text}")
        found += _below(own, indent + ("   " if is_last else "│  "))
    return found


def version_tree(found: VersionLineage) -> Branch:
    """Return what a version came from, and what it was used for."""
    version, origin = found.version, found.version.origin
    fit: list[Branch | str] = [f"MLflow run {version.mlflow_run}"]
    if origin is None:
        fit.append("what it read was not recorded: an older version of the product fitted it")
    else:
        fit += [
            f"code: commit {origin.git_commit}",
            f"journal up to entry {origin.watermark}, as of {origin.as_of:%Y-%m-%d %H:%M} UTC, {origin.data_view}",
            Branch(
                "training set: labelled days " + str(origin.days),
                [
                    *(f"{table} version {number}" for table, number in found.tables.items()),
                    Branch(f"features of {_many(found.days, 'prepared day')}", _days(found.days)),
                    Branch(f"labels from {_many(found.outcomes, 'delivery', 'deliveries')}"),
                    Branch(_many(found.deliveries, "delivery", "deliveries"), _deliveries(found.deliveries)),
                ],
            ),
        ]
    what = f"adopted from {version.adopted_from}" if version.adopted_from else f"fit of candidate {version.candidate}"
    return Branch(
        f"{version.model} version {version.model_version} ({version.semantic_version or 'no semantic version'})",
        [
            *([version.changed] if version.changed else []),
            Branch(f"{what}, run date {version.trained_day}", fit),
            *(
                f"gate: {'passed' if each.passed else 'rejected'}, {each.checks} checks, against "
                f"{'no champion' if each.champion is None else f'version {each.champion}'} ({each.gate_id})"
                for each in found.gates
            ),
            *(
                f"champion from {each.from_day} on, by {each.by}{' (forced)' if each.forced else ''}: {each.why}"
                for each in found.promotions
            ),
            Branch(_many(found.batches, "prediction batch", "prediction batches"), _batches(found.batches)),
        ],
    )


def delivery_tree(found: DeliveryLineage) -> Branch:
    """Return what was made from a delivery."""
    delivery = found.delivery
    correction = ", a correction" if delivery.correction else ""
    not_any_more = sorted({each.day for each in found.days} - set(found.current))
    return Branch(
        f"delivery {delivery.delivery_id}",
        [
            f"feed {delivery.feed}, {delivery.day}{correction}, {delivery.verdict}",
            f"entry {delivery.sequence} of the journal; rows in {delivery.raw_table} and {found.clean_table}",
            Branch(
                f"features of {_many(found.current, 'prepared day')}", [_spans(found.current)] if found.current else []
            ),
            *([f"repaired since, and without it now: {_spans(not_any_more)}"] if not_any_more else []),
            Branch(
                f"{_many(found.versions, 'version')} trained on it",
                [
                    f"{each.model} version {each.model_version} ({each.semantic_version}): "
                    + " and ".join([
                        *([f"features of {_spans(each.days)}"] if each.days else []),
                        *(["labels"] if each.labels else []),
                    ])
                    for each in found.versions
                ],
            ),
            Branch(f"{_many(found.scored, 'batch', 'batches')} scored from it", _batches(found.scored)),
            Branch(
                f"{_many(found.predicted, 'batch', 'batches')} of versions trained on it", _batches(found.predicted)
            ),
        ],
    )


def prediction_tree(found: PredictionLineage) -> Branch:
    """Return what the published predictions of a day came from."""
    batch = found.batch
    of = f", entity {found.entity_id}" if found.entity_id else ""
    features: Branch | str = "what was scored is not known by a record: the day was prepared again since"
    if found.day is not None:
        by = "data view latest" if found.day.record is None else f"record {found.day.record}"
        features = Branch(
            f"features of {batch.day} ({by}) in {found.features_table}",
            [Branch(_many(found.deliveries, "delivery", "deliveries"), _deliveries(found.deliveries))],
        )
    return Branch(
        f"{batch.model}, predictions of {batch.day}{of}",
        [
            f"batch {batch.batch_id}: {batch.rows} rows, as of {batch.as_of:%Y-%m-%d %H:%M} UTC, {batch.state}",
            Branch(
                f"version {batch.model_version} ({found.semantic_version or 'no semantic version'})",
                [f"python -m include.cli lineage --model {batch.model} --version {batch.model_version}"],
            ),
            features,
        ],
    )


def _days(days: Sequence[UsedDay]) -> list[str]:
    by_record: dict[int | None, list[date]] = {}
    for each in days:
        by_record.setdefault(each.record, []).append(each.day)
    return [
        f"{'data view latest' if number is None else f'record {number}'} of {_spans(of)}"
        for number, of in sorted(by_record.items(), key=lambda item: item[0] or 0)
    ]


def _deliveries(deliveries: Sequence[UsedDelivery]) -> list[Branch]:
    found = []
    for feed in dict.fromkeys(each.feed for each in deliveries):
        of_feed = [each for each in deliveries if each.feed == feed]
        days = [each.day for each in of_feed]
        special = [each for each in of_feed if each.correction or each.verdict != "accepted"]
        below = [
            f"{'correction ' if each.correction else ''}{each.delivery_id} of {each.day}"
            + ("" if each.verdict == "accepted" else f", {each.verdict} since")
            for each in special[:MAX_NAMED]
        ]
        if len(special) > MAX_NAMED:
            below.append(f"and {len(special) - MAX_NAMED} more: --json")
        text = f"{feed}: {len(of_feed)} in {of_feed[0].raw_table}, files of {min(days)} to {max(days)}"
        found.append(Branch(text, below))
    return found


def _batches(batches: Sequence[BatchLine]) -> list[str]:
    groups: dict[tuple[str, int, str], list[date]] = {}
    for each in batches:
        groups.setdefault((each.model, each.model_version, each.state), []).append(each.day)
    return [f"{model} version {version}, {state}: {_spans(days)}" for (model, version, state), days in groups.items()]


def _spans(days: Iterable[date]) -> str:
    parts = Interval.covering(days)
    return ", ".join(str(part.start) if part.start == part.end else f"{part.start} to {part.end}" for part in parts)


def _many(things: Sequence[object], one: str, several: str | None = None) -> str:
    return f"{len(things)} {one if len(things) == 1 else several or f'{one}s'}"
