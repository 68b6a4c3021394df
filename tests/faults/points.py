"""The points at which real tasks are killed. If a task has two points, the second one kills its retry.

The example project has no feed with a source, so there is no point in `extract`: `tests/integration/test_extract.py`
kills that step before and after its entries.
"""

from typing import NamedTuple


class Point(NamedTuple):
    """A point before or after the n-th call of a function ("module:name") in a task."""

    task: str
    at: str
    when: str
    call: int = 1


POINTS = {
    # raw has the rows of two of three feeds
    "land, some feeds written": Point("land", "include.io.tables:write_deltalake", "after", call=2),
    "land, entries committed": Point("land", "include.steps.land:enter", "after"),
    # clean has its rows, but no delivery has a verdict
    "validate, before the verdicts": Point("validate", "include.steps.verdicts:_enter_verdicts", "before"),
    # Spark has finished, but the table has no commit
    "build_features, files written": Point("build_features", "include.io.tables:Tables.replace_files", "before"),
    # the features are committed, but the day is not recorded as prepared
    "build_features, committed": Point("build_features", "include.steps.build_features:record_prepared_days", "before"),
    # model and metrics are logged already
    "fit, not marked as finished": Point("fit", "include.io.registry.client:MlflowClient.set_terminated", "before"),
    # the version has its number already
    "evaluate, version not tagged": Point(
        "evaluate", "include.io.registry.client:MlflowClient.set_model_version_tag", "before"
    ),
    "gate, decision recorded": Point("gate", "include.io.registry:Registry.record_gate", "before"),
    "promote, row not committed": Point("promote", "include.io.postgres.promotions:PromotionHistory.add", "after"),
    "promote, alias not moved": Point("promote", "include.steps.promote:sync_alias", "before"),
    "score, not counted": Point("score", "include.steps.score:_reconcile", "before"),
    # batch and rows are stored in the open transaction, but no pointer has moved
    "publish, rows copied": Point("publish", "include.io.postgres.predictions:_decide", "before"),
    "publish, committed": Point("publish", "include.io.postgres.predictions:publish_batches", "after"),
    "outcomes, rows replaced": Point("outcomes", "include.io.postgres.outcomes:replace_outcomes", "after"),
    "monitor, performance written": Point("monitor", "include.io.postgres.freshness:record_freshness", "before"),
}
