"""The shared PostgreSQL database: how rows are stored so that nothing is doubled, half there or overwritten by
something older. What the rows should be is decided in `include/steps`.

Small reads and writes go by SQLAlchemy, bulk ones as Arrow through ADBC (`COPY` into a temporary table, then one
statement). SQL is never formatted from values; identifiers only come from names that `include/core` has validated.

Whoever writes the same thing as another at once waits for it, on an advisory lock held to the end of the transaction:
`promote <model>`, `publish <model>`, then `entities <project>` (always in that order), `outcomes <project>`,
`quality <project>`, `performance <model>`.
"""

from include.io.postgres import (
    alerts,
    audit,
    connection,
    days,
    freshness,
    gate_decisions,
    migrations,
    outcomes,
    performance,
    predictions,
    promotions,
    schema,
)

__all__ = [
    "alerts",
    "audit",
    "connection",
    "days",
    "freshness",
    "gate_decisions",
    "migrations",
    "outcomes",
    "performance",
    "predictions",
    "promotions",
    "schema",
]
