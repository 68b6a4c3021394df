"""validate: hold each delivery against `expectations.yaml`; accepted ones become typed rows in `clean_<feed>`."""

import logging
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import polars as pl

from include import schemas
from include.config import Feed, Project, nearest, read_yaml
from include.contracts import Interval, Refusal, Validated
from include.errors import BadConfig, BadData
from include.io import database
from include.io.tables import Scope, Tables
from include.knowledge import as_of_days
from include.naming import clean_table, deliveries_table, raw_table
from include.settings import Settings

log = logging.getLogger(__name__)

CHUNK_DELIVERIES = 100  # written at a time, so that a range run has bounded memory


def validate(project: Project, interval: Interval, settings: Settings) -> Validated:
    """Give a verdict to every delivery that has none, and again to those refused that the nights of the interval
    would read, since the rule may be mended.

    Accepted deliveries go to clean, each result to `quality_results`. Raises `BadData`, naming the expectations, when
    a day of the interval is left without an accepted delivery of a required feed: nothing is made of such a night.
    """
    tables = Tables(settings)
    waiting = _waiting(project, interval, tables)
    suites = _Suites(project) if not waiting.is_empty() else None
    for name, feed in project.feeds.items():  # also of a feed that has not delivered yet, as on the first day
        tables.create(clean_table(name), schemas.clean(project, feed))
    accepted, rows, warnings, version = 0, 0, 0, None
    refused: list[Refusal] = []
    for chunk in waiting.iter_slices(CHUNK_DELIVERIES):
        assert suites is not None
        verdicts: dict[str, str | None] = {}  # delivery_id -> why it is refused
        for (feed_name,), of_feed in chunk.group_by("feed", maintain_order=True):
            name = str(feed_name)
            feed = project.feeds[name]
            scope = Scope.of_deliveries(of_feed["day"].to_list(), of_feed["delivery_id"].to_list())
            raw = tables.scan(raw_table(name)).filter(scope.expr()).collect()
            deliveries = [*of_feed.iter_rows(named=True)]
            typed = [_typed(project, feed, raw.filter(pl.col("delivery_id") == d["delivery_id"])) for d in deliveries]
            results: list[dict[str, Any]] = []
            clean: list[pl.DataFrame] = []
            for delivery, of_delivery, found in zip(deliveries, typed, suites.results(name, typed), strict=True):
                results += [{**_about(project, delivery), **result} for result in found]
                critical = [r for r in found if not r["success"] and r["severity"] == "critical"]
                warnings += sum(not r["success"] and r["severity"] == "warning" for r in found)
                why = "; ".join(map(_sentence, critical)) or None
                verdicts[delivery["delivery_id"]] = why
                if why:
                    uri = delivery["uri"]
                    refused.append(Refusal(feed=name, day=delivery["day"], uri=uri, why=f"{uri}: {why}"))
                else:
                    clean.append(of_delivery)
            frame = pl.concat(clean) if clean else typed[0].clear()
            frame = frame.select(schemas.clean(project, feed).keys())
            # refused deliveries are in the scope too: what an earlier, laxer rule let through goes away
            sort_by = ["day", "delivery_id", *feed.key]
            tables.replace(clean_table(name), partial(_instead, frame), scope, sort_by=sort_by)
            database.record_quality(settings, results)
            rows += frame.height
        version = _give_verdicts(project, tables, chunk, verdicts)
        accepted += sum(why is None for why in verdicts.values())
    for refusal in refused:
        log.warning("refused: %s", refusal.why)
    log.info("%s: %d deliveries accepted, %d refused, %d warnings", interval, accepted, len(refused), warnings)
    _require_accepted(project, interval, tables, refused)
    return Validated(
        interval=interval, rows=rows, version=version, accepted=accepted, refused=tuple(refused), warnings=warnings
    )


def _instead(wanted: pl.DataFrame, current: pl.DataFrame) -> pl.DataFrame:
    """For `Tables.replace`: whatever is there; nothing is committed when it is the same."""
    return wanted


def _waiting(project: Project, interval: Interval, tables: Tables) -> pl.DataFrame:
    """The deliveries to judge: rows of `schemas.DELIVERIES`, by day."""
    wanted = pl.col("verdict") == "landed"
    for name, feed in project.feeds.items():
        read = pl.col("day").is_between(feed.window(interval.start).start, feed.window(interval.end).end)
        wanted |= (pl.col("verdict") == "refused") & (pl.col("feed") == name) & read
    return (
        tables
        .scan(deliveries_table(project.name))
        .filter(wanted, pl.col("feed").is_in(list(project.feeds)))
        .sort("day", "feed", "delivery_id")
        .collect()
    )


def _require_accepted(project: Project, interval: Interval, tables: Tables, refused: list[Refusal]) -> None:
    try:
        as_of_days(project, tables.scan(deliveries_table(project.name)).collect(), interval)
    except BadData as error:
        raise BadData("\n".join([str(error), *(r.why for r in refused)])) from error


def _give_verdicts(project: Project, tables: Tables, chunk: pl.DataFrame, verdicts: dict[str, str | None]) -> int:
    ids = list(verdicts)

    def judged(current: pl.DataFrame) -> pl.DataFrame:
        why = pl.col("delivery_id").replace_strict(verdicts, return_dtype=pl.String())
        return current.with_columns(
            why=why, verdict=pl.when(why.is_null()).then(pl.lit("accepted")).otherwise(pl.lit("refused"))
        )

    scope = Scope.of_deliveries(chunk["day"].to_list(), ids)
    return tables.replace(deliveries_table(project.name), judged, scope, sort_by=["day", "feed", "delivery_id"]).version


def _typed(project: Project, feed: Feed, raw: pl.DataFrame) -> pl.DataFrame:
    """Columns of `schemas.clean` and `_malformed`, which names the columns of a row whose text has not their type."""
    typed = raw.with_columns(schemas.parse(pl.col(name), column.type) for name, column in feed.kept.items())
    unread = [
        pl.when(raw[name].is_not_null() & typed[name].is_null()).then(pl.lit(name)).otherwise(None)
        for name in feed.kept
    ]
    malformed = pl.concat_str([pl.col("_malformed"), *unread], separator=",", ignore_nulls=True)
    typed = typed.with_columns(malformed.replace("", None).alias("_malformed"))
    if schemas.has_entity(project, feed):
        typed = typed.with_columns(schemas.entity_id(project))
    return typed


def _about(project: Project, delivery: dict[str, Any]) -> dict[str, Any]:
    return {"project": project.name, **{name: delivery[name] for name in ("feed", "day", "delivery_id")}}


def _sentence(result: dict[str, Any]) -> str:
    where = f" of {result['column']}" if result["column"] else ""
    if result["unexpected_rows"]:
        return f"{result['expectation']}{where} failed, {result['unexpected_rows']} of {result['rows']} rows"
    return f"{result['expectation']}{where} failed (observed {result['observed']})"


class _Suites:
    """`expectations.yaml` as Great Expectations suites, one a feed."""

    def __init__(self, project: Project) -> None:
        os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
        logging.getLogger("great_expectations").setLevel(logging.WARNING)  # its import writes a hundred lines
        import great_expectations as gx  # 5 s: only in the task that needs it
        from great_expectations.data_context.types.base import ProgressBarsConfig

        logging.getLogger("great_expectations.data_context.types.base").setLevel(logging.WARNING)  # it sets its own
        context = gx.get_context(mode="ephemeral")
        context.variables.progress_bars = ProgressBarsConfig(globally=False)
        asset = context.data_sources.add_pandas(project.name).add_dataframe_asset("delivery")
        self._batch = asset.add_batch_definition_whole_dataframe("whole")
        self._new_suite = gx.ExpectationSuite
        self._expectations = declared_expectations(project)

    def results(self, feed: str, deliveries: Sequence[pl.DataFrame]) -> list[list[dict[str, Any]]]:
        """For each delivery, one result an expectation, in the order of the file.

        Great Expectations takes milliseconds for an expectation on a frame of any size. So expectations that look at
        one row at a time are evaluated on all deliveries together first; only where a row breaks one, and for what
        is about a whole delivery, each is looked at alone. Raises `BadConfig` when one cannot be evaluated.
        """
        everything = range(len(self._expectations[feed]))
        met: dict[int, dict[str, Any]] = {}
        if len(deliveries) > 1:
            single = [n for n in everything if _is_by_row(self._expectations[feed][n])]
            together = self._evaluate(feed, pl.concat(deliveries), single)
            met = {n: result for n, result in together.items() if result["success"] and result["unexpected_rows"] == 0}
        found = []
        for rows in deliveries:
            alone = self._evaluate(feed, rows, [n for n in everything if n not in met])
            found.append([{**met[n], "rows": rows.height} if n in met else alone[n] for n in everything])
        return found

    def _evaluate(self, feed: str, rows: pl.DataFrame, numbers: Sequence[int]) -> dict[int, dict[str, Any]]:
        """Number of an expectation -> its result on a frame. None is passed over in silence."""
        if not numbers:
            return {}
        suite = self._new_suite(name=feed, expectations=[self._expectations[feed][n] for n in numbers])
        batch = self._batch.get_batch(batch_parameters={"dataframe": rows.to_pandas()})
        found = {}
        for result in batch.validate(suite, result_format={"result_format": "BASIC"}).results:
            config, measured = result.expectation_config, result.result
            assert config is not None
            name = config.type.removeprefix("expect_")
            column = config.kwargs.get("column") or ", ".join(config.kwargs.get("column_list", []))
            if problem := _exception(result.exception_info):
                raise BadConfig(f"expectations.yaml, {feed}: {name} of {column} cannot be evaluated: {problem}")
            by_row = "unexpected_count" in measured
            found[config.meta["number"]] = {
                "expectation": name,
                "column": column,
                "severity": str(config.severity.value),
                "success": bool(result.success),
                "rows": rows.height if by_row else None,
                "unexpected_rows": int(measured["unexpected_count"] or 0) if by_row else None,
                "observed": None if by_row else str(measured.get("observed_value")),
            }
        if lost := set(numbers) - found.keys():
            entry = self._expectations[feed][min(lost)]
            raise BadConfig(f"expectations.yaml, {feed}: Great Expectations gave no result for {entry}")
        return found


BY_ROW = frozenset({
    "column_values_to_be_between",
    "column_values_to_be_in_set",
    "column_values_to_not_be_in_set",
    "column_values_to_be_null",
    "column_values_to_not_be_null",
    "column_values_to_match_regex",
    "column_values_to_not_match_regex",
    "column_value_lengths_to_be_between",
    "column_value_lengths_to_equal",
    "column_pair_values_a_to_be_greater_than_b",
    "column_pair_values_to_be_equal",
    "column_values_to_be_unique",
    "compound_columns_to_be_unique",
})
"""Met by all rows together, met by each part of them. Not so what compares a row to the rest, such as outliers."""


def _is_by_row(expectation: Any) -> bool:
    return _snake(type(expectation).__name__) in BY_ROW


def _exception(info: dict[str, Any]) -> str | None:
    """The message of what Great Expectations caught; it stands directly, or below the id of each metric."""
    caught = [info] if "raised_exception" in info else [i for i in info.values() if isinstance(i, dict)]
    messages = [str(i.get("exception_message")) for i in caught if i.get("raised_exception")]
    return "; ".join(messages) or None


def declared_expectations(project: Project) -> dict[str, list[Any]]:
    """Feed -> Great Expectations objects: those that always hold, then those of the file, numbered in `meta`.

    Raises `BadConfig` naming feed, place and cure.
    """
    import great_expectations.expectations as gxe

    path = project.folder / "expectations.yaml"
    declared = read_yaml(path)
    if unknown := declared.keys() - project.feeds.keys():
        name = min(unknown)
        raise BadConfig(f"{path}: no feed {name!r}{nearest(name, project.feeds)}")
    known = {_snake(name): getattr(gxe, name) for name in dir(gxe) if re.match("Expect[A-Z]", name)}
    found: dict[str, list[Any]] = {}
    for name, feed in project.feeds.items():
        columns = schemas.clean(project, feed).keys() | {"_malformed"}
        found[name] = [
            _expectation(f"{path}: {name}, always", columns, entry, known, number)
            for number, entry in enumerate(_always(project, name))
        ]
        for n, entry in enumerate(declared.get(name) or [], 1):
            where = f"{path}: {name}, entry {n}"
            found[name].append(_expectation(where, columns, entry, known, len(found[name])))
    return found


def _always(project: Project, feed: str) -> Iterator[dict[str, Any]]:
    """What clean promises whatever the file says: values of their types, one row a key, one row an entity."""
    critical = {"severity": "critical"}
    key = project.feeds[feed].key
    yield {"expect": "column_values_to_be_null", "column": "_malformed", **critical}
    for column in key:
        yield {"expect": "column_values_to_not_be_null", "column": column, **critical}
    if len(key) > 1:
        yield {"expect": "compound_columns_to_be_unique", "column_list": list(key), **critical}
    else:
        yield {"expect": "column_values_to_be_unique", "column": key[0], **critical}
    if feed == project.entity.feed:
        yield {"expect": "column_values_to_be_unique", "column": "entity_id", **critical}


def _expectation(
    where: str, columns: Collection[str], entry: dict[str, Any], known: Mapping[str, Any], number: int
) -> Any:
    if not isinstance(entry, dict):
        raise BadConfig(f"{where}: must be a mapping with expect, severity and arguments")
    arguments = {**entry, "meta": {"number": number}}
    name = str(arguments.pop("expect", ""))
    if name not in known:
        raise BadConfig(f"{where}: no expectation {name!r}{nearest(name, known)}")
    if arguments.get("severity") not in ("critical", "warning"):
        raise BadConfig(f"{where}: {name}: severity must be critical or warning")
    named = [arguments.get("column"), arguments.get("column_A"), arguments.get("column_B")]
    for column in [*named, *(arguments.get("column_list") or [])]:
        if column is not None and column not in columns:
            raise BadConfig(f"{where}: {name}: clean has no column {column!r}{nearest(str(column), columns)}")
    try:
        return known[name](**arguments)
    except ValueError as error:
        raise BadConfig(f"{where}: {name}: {error}") from error


def _snake(name: str) -> str:
    """ExpectColumnValuesToNotBeNull -> column_values_to_not_be_null."""
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).removeprefix("_expect_")
