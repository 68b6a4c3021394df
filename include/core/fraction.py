"""Which entities belong to a fraction of them: `entity_fraction` in project.yaml, and `cli pull`. Pure."""

import hashlib

import polars as pl


def in_fraction(fraction: float) -> pl.Expr:
    """Return whether a row's entity belongs to the fraction.

    A hash of the entity decides, so that the answer is the same on each day and in each run, and an entity of a smaller
    fraction also belongs to every larger one.
    """
    threshold = limit(fraction)
    return pl.col("entity_id").map_elements(
        lambda entity: hashlib.sha256(entity.encode()).hexdigest()[:8] < threshold, return_dtype=pl.Boolean
    )


def limit(fraction: float) -> str:
    """Return the value below which the first 8 digits of a hash belong to the fraction."""
    return f"{int(fraction * 16**8):08x}"
