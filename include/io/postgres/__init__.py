"""Read and write the shared PostgreSQL database, so that no row is doubled, half written or replaced by an older one.

`include/steps` decides what the rows contain. `schema` describes the tables; the statements are SQLAlchemy
expressions over them. Small reads and writes go through psycopg2, bulk ones as Arrow through ADBC: `COPY` into a
temporary table, then statements over it.

Two writers of the same thing wait for each other on a row of the table `locks`, held to the end of the transaction:
`promote <model>`, `publish <model>`, then `entities <project>` (always in this order), `outcomes <project>`,
`quality <project>`, `journal <project>`, `performance <model>`, `comparisons <model>`, `drift <model>`,
`shadow <model>`, `retrain <model>`, `incidents <project>`. Every step shares the lock `hash key`, which a rotation
holds alone, and `erase <project>`, which an erasure does.
"""

from include.io.postgres import (
    alerts,
    audit,
    comparisons,
    connection,
    days,
    drift,
    erasures,
    freshness,
    gate_decisions,
    hash_keys,
    incident_failures,
    incident_looks,
    incidents,
    journal,
    latency,
    messages,
    migrations,
    model_files,
    outcomes,
    performance,
    pipeline,
    predictions,
    promotions,
    pulls,
    recorded,
    retrainings,
    running,
    schema,
    shadows,
    skew,
    training_summaries,
    version_moves,
    watches,
)

__all__ = [
    "alerts",
    "audit",
    "comparisons",
    "connection",
    "days",
    "drift",
    "erasures",
    "freshness",
    "gate_decisions",
    "hash_keys",
    "incident_failures",
    "incident_looks",
    "incidents",
    "journal",
    "latency",
    "messages",
    "migrations",
    "model_files",
    "outcomes",
    "performance",
    "pipeline",
    "predictions",
    "promotions",
    "pulls",
    "recorded",
    "retrainings",
    "running",
    "schema",
    "shadows",
    "skew",
    "training_summaries",
    "version_moves",
    "watches",
]
