"""Features of a planned delivery, from what its run date knows."""

from pyspark.sql import DataFrame

from include.features import Feeds


def build(feeds: Feeds) -> DataFrame:
    """Return one row for each planned item of each run date (`day`): `entity_id` and the features."""
    items = feeds.current("plan").drop("delivery_date")
    items = items.join(feeds.current("stores"), ["day", "store_id"], "left")
    return feeds.add_windows(items, "sales", by="item_id", days=[7, 28], sold=("sold", "mean"))
