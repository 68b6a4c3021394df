"""The night as Dagster assets with a partition for each run date, and the job that materializes them.

Started as Dagster's documentation says for production: a webserver, a daemon, and a code server that both share. The
job's default executor runs each asset in a process of its own.
"""

import dagster as dg

from bench.peers.night import FEED_NAMES, Night

RUN_DATES = dg.DailyPartitionsDefinition(start_date="2013-01-01", end_date="2014-01-01")


def _clean(name: str) -> dg.AssetsDefinition:
    @dg.asset(name=name, partitions_def=RUN_DATES, retry_policy=dg.RetryPolicy(max_retries=2, delay=30))
    def clean(context: dg.AssetExecutionContext) -> None:
        Night.of(context.partition_key).validate(name)

    return clean


@dg.asset(partitions_def=RUN_DATES, deps=FEED_NAMES)
def features(context: dg.AssetExecutionContext) -> None:
    """Features of the run date."""
    Night.of(context.partition_key).build_features()


@dg.asset(partitions_def=RUN_DATES, deps=[features])
def scores(context: dg.AssetExecutionContext) -> None:
    """Scores of the run date."""
    Night.of(context.partition_key).score()


@dg.asset(partitions_def=RUN_DATES, deps=[scores])
def predictions(context: dg.AssetExecutionContext) -> None:
    """Rows of the run date in PostgreSQL."""
    Night.of(context.partition_key).publish()


night = dg.define_asset_job("night", selection="*", partitions_def=RUN_DATES)
definitions = dg.Definitions(assets=[*map(_clean, FEED_NAMES), features, scores, predictions], jobs=[night])
