"""What a project's `features.py` builds features from: `Feeds`, the deliveries that each run date knows.

A project imports `Feeds` from here. Pure: DataFrames in, DataFrames out. Reading and writing belong in
`include/steps/build_features.py`, the choice of deliveries in `include/core/point_in_time.py`.
"""

from include.features.feeds import Feeds

__all__ = ["Feeds"]
