"""The tables of the shared database: names, columns, types and comments, as SQLAlchemy knows them.

The modules of this package build their statements from these tables. What only the database itself can keep (checks,
triggers, indexes, views, roles) is in `migrations/versions/`. A migration is frozen once it is deployed, so it does not
import this module: it repeats the columns and comments that it adds. `tests/integration/test_database.py` compares a
migrated database with this module.
"""

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from include.core.names import entities_table
from include.core.schemas import EVERY_PREDICTION, OF_JSON, PREDICTION_COLUMNS, REASONS

metadata = sa.MetaData()

VERSION_TABLE = "nightly_ml_version"
"""The table of Alembic's revision: MLflow and Airflow have an `alembic_version` of their own."""

TEXT = sa.Text()
BYTES_TEXT = sa.Text(collation="C")  # sorted by bytes: see the first migration
DATE = sa.Date()
MOMENT = sa.DateTime(timezone=True)
BOOLEAN = sa.Boolean()
INTEGER = sa.Integer()
BIGINT = sa.BigInteger()
DOUBLE: sa.Double[float] = sa.Double()
UUID = sa.Uuid(as_uuid=False)
JSONB = postgresql.JSONB()

MODEL = "Name of the model."
PROJECT = "Name of the project."
RUN_ID = "Airflow run that wrote the row, or by-hand."
ENTITY_ID = "Key of the entity as text; unique within the day."
RUN_DATE = "Run date."
SCORED_DAY = "Run date, a calendar day in the project's timezone; with horizon 0, the day that the predictions are for."
HORIZON_OF = "Days from the run date to the day that the row is about."
SCORED_BY = "Registry version of the model that made the predictions."
PREDICTIONS = {
    "score": "Binary: probability of 1, from 0 to 1. Multiclass: probability of the predicted label. Otherwise the "
    "predicted value, in the outcome's unit.",
    "prediction": "Binary: 1 if the score reaches the decision threshold, else 0. Multiclass: number of the label. "
    "Otherwise the score.",
    "lower": "Quantile: the lower limit, in the outcome's unit. Otherwise null.",
    "upper": "Quantile: the upper limit, in the outcome's unit. Otherwise null.",
    "label": "Multiclass: the predicted label. Otherwise null.",
    "probabilities": "Multiclass: probability of each label. Otherwise null.",
}


_PREDICTION_TYPES: dict[str, sa.types.TypeEngine[Any]] = {
    "label": TEXT,
    "probabilities": JSONB,
}  # the others are numbers


def _column(name: str, kind: sa.types.TypeEngine[Any], comment: str, *args: Any, **options: Any) -> sa.Column[Any]:
    """Return a column with a comment; it is NOT NULL unless `nullable=True`."""
    return sa.Column(name, kind, *args, comment=comment, **{"nullable": False, **options})


def _key(name: str, kind: sa.types.TypeEngine[Any], comment: str) -> sa.Column[Any]:
    """Return a column of the primary key."""
    return _column(name, kind, comment, primary_key=True)


def _id() -> sa.Column[Any]:
    """Return the key of a table that is only added to."""
    return _column("id", BIGINT, "Order in which the rows were written.", sa.Identity(always=True), primary_key=True)


def _now(name: str, comment: str) -> sa.Column[Any]:
    """Return a moment that the database fills in."""
    return _column(name, MOMENT, comment, server_default=sa.func.clock_timestamp())


models = sa.Table(
    "models",
    metadata,
    _key("model", TEXT, MODEL),
    _column("project", TEXT, PROJECT),
    _column("outcome", TEXT, "Name of the outcome that the model predicts."),
    _column("problem_type", TEXT, "Problem type: binary, multiclass, regression, count or quantile."),
    _column("title", TEXT, "Display name of the model."),
    _column("owner", TEXT, "Person or team responsible for the model."),
    comment="What each model declares, as of its newest publish. Links predictions with outcomes.",
)

projects = sa.Table(
    "projects",
    metadata,
    _key("project", TEXT, PROJECT),
    _column("title", TEXT, "Display name of the project."),
    _column("timezone", TEXT, "Timezone in which its days begin."),
    _now("migrated_at", "Time at which the declaration was last recorded."),
    _column(
        "predictions_months",
        INTEGER,
        "Whole months for which predictions and entities are kept (`retention`); null: for ever.",
        nullable=True,
    ),
    comment="What each project declares, as of the newest migration. Pages show dates in its timezone.",
)

public_pages = sa.Table(
    "public_pages",
    metadata,
    _key("project", TEXT, PROJECT),
    _column("place", TEXT, "URI of the folder of all pages; the page is <project>/index.html in it."),
    _column(
        "place_before",
        TEXT,
        "Place of the page before, until the page was written to the new place. Otherwise null.",
        nullable=True,
    ),
    _column(
        "tables",
        TEXT,
        "Where the Delta tables were then: a copy of the database beside other tables must not write this page.",
    ),
    _column("run_id", TEXT, RUN_ID),
    _now("recorded_at", "Time at which this place was recorded."),
    comment="Where the page for everybody of each project is written. Commands in a shell refresh the page of this "
    "place.",
)

promotions = sa.Table(
    "promotions",
    metadata,
    _id(),
    _column("model", TEXT, MODEL),
    _column("model_version", INTEGER, "Version in the registry."),
    _column("from_day", DATE, "First day that this version scores."),
    _column("by", TEXT, "Person who promoted the version, or gate."),
    _column("why", TEXT, "Reason for the promotion."),
    _column("run_id", TEXT, RUN_ID),
    _now("created_at", "Time at which the row was written."),
    _column("trained_day", DATE, "Run date of the training that made the version.", nullable=True),
    _column("gate_id", UUID, "Gate decision that supports the promotion; null if forced without one.", nullable=True),
    _column(
        "forced",
        BOOLEAN,
        "True if a person promoted the version against the gate or without a gate decision.",
        server_default=sa.false(),
    ),
    _column(
        "counts_from",
        DATE,
        "First run date whose training has to beat it, if a shadow delayed that; otherwise null.",
        nullable=True,
    ),
    _column(
        "rolled_back_from",
        INTEGER,
        "Of a rollback: the champion that it replaced. Null if the row is no rollback.",
        nullable=True,
    ),
    comment="The promotion history. The champion of a day is the row with the greatest from_day up to that day; among "
    "equals the newest id counts.",
)

batches = sa.Table(
    "batches",
    metadata,
    _key("batch_id", UUID, "Identifier derived from the content: equal content is the same batch."),
    _column("model", TEXT, MODEL),
    _column("day", DATE, SCORED_DAY),
    _column("model_version", INTEGER, SCORED_BY),
    _column("rows", BIGINT, "Number of predictions in the batch."),
    _column("digest", TEXT, "SHA-256 of the predictions."),
    _column("as_of", MOMENT, "The features used only what was available up to this moment."),
    _column("run_id", TEXT, RUN_ID),
    _now("created_at", "Time at which the batch was stored."),
    _column(
        "erased",
        BIGINT,
        "Predictions removed since, because a person was erased; then the id does not follow from rows and digest.",
        server_default=sa.text("0"),
    ),
    _column("horizon_days", INTEGER, "Largest horizon that the version predicts.", server_default=sa.text("0")),
    comment="Prediction batches: all predictions of one model version for one day. Immutable.",
)

predictions = sa.Table(
    "predictions",
    metadata,
    _key("batch_id", UUID, "Batch that the prediction belongs to."),
    _column("model", TEXT, MODEL),
    _key("day", DATE, SCORED_DAY),
    _key("entity_id", BYTES_TEXT, "Key of the entity as text; unique within day and horizon."),
    *(
        _column(name, _PREDICTION_TYPES.get(name, DOUBLE), PREDICTIONS[name], nullable=name not in EVERY_PREDICTION)
        for name in PREDICTION_COLUMNS
    ),
    _column("horizon", INTEGER, HORIZON_OF, primary_key=True, server_default=sa.text("0")),
    _column(REASONS, JSONB, "The strongest reasons of the score; null without `explanations`.", nullable=True),
    comment="The rows of all batches. The trigger batch_gets_no_more replaces a foreign key, which would cost one "
    "lookup for each row.",
)

published = sa.Table(
    "published",
    metadata,
    _key("model", TEXT, MODEL),
    _key("day", DATE, SCORED_DAY),
    _column("batch_id", UUID, "Batch that readers see."),
    _column("run_id", TEXT, RUN_ID),
    _column("published_at", MOMENT, "Time from which readers see this batch."),
    comment="The pointers that readers follow: the published batch of each model and day. A pointer moves in the "
    "transaction that stores its batch.",
)

publications = sa.Table(
    "publications",
    metadata,
    _id(),
    _column("model", TEXT, MODEL),
    _column("day", DATE, SCORED_DAY),
    _column("batch_id", UUID, "Batch published from then on; null if nothing is published any more.", nullable=True),
    _column("replaced", UUID, "Batch published until then; null if there was none.", nullable=True),
    _column(
        "mode",
        TEXT,
        "replace, missing, unpublish (readers were pointed back to the batch before) or retention (the month left the "
        "database).",
    ),
    _column("run_id", TEXT, RUN_ID),
    _column("published_at", MOMENT, "Time at which the pointer moved."),
    comment="Every move of a pointer: which batch replaced which, when, and by which run.",
)

dropped_months = sa.Table(
    "dropped_months",
    metadata,
    _id(),
    _column("project", TEXT, PROJECT),
    _column("relation", TEXT, "Table that the rows were in."),
    _column("month", DATE, "First day of the month."),
    _column("rows", BIGINT, "Rows that were removed."),
    _column(
        "bytes",
        BIGINT,
        "Bytes that they took, with indexes; estimated where other projects have rows of the month.",
    ),
    _column("months", INTEGER, "Months to keep that were declared then."),
    _column("by", TEXT, "Who asked for it: a person, as typed, or maintenance."),
    _column("run_id", TEXT, RUN_ID),
    _column(
        "transaction",
        BIGINT,
        "Transaction that wrote the row: in it alone, the owner may remove predictions.",
        server_default=sa.text("((pg_current_xact_id())::text)::bigint"),
    ),
    _now("dropped_at", "Time at which the row was written."),
    comment="Months of predictions and entities that left the database, as `retention` declares. Immutable.",
)

prepared_days = sa.Table(
    "prepared_days",
    metadata,
    _key("project", TEXT, PROJECT),
    _key("day", DATE, RUN_DATE),
    _key("data_view", TEXT, "point_in_time: what the run date's own run knew. latest: with later corrections."),
    _column("as_of", MOMENT, "The features used only what was available up to this moment."),
    _column("watermark", BIGINT, "Newest entry of the journal that the features could use."),
    _column("deliveries", postgresql.ARRAY(sa.Text()), "Deliveries that the features were built from."),
    _column("table_versions", JSONB, "Version of each Delta table that was read or written."),
    _column("rows", BIGINT, "Rows of features."),
    _column(
        "left_out",
        BIGINT,
        "Entities without features, because entity.where is not true for them.",
        server_default=sa.text("0"),
    ),
    _column(
        "number",
        sa.Integer(),
        "Number of the record that the features were built from; null with the data view latest.",
        nullable=True,
    ),
    _column(
        "lacks",
        JSONB,
        "What the run date went on without, by feed: days whose files it does not know, a missing or old snapshot.",
        server_default=sa.text("'{}'"),
    ),
    _column(
        "config_digest",
        TEXT,
        "Digest of the declarations and the code that made the features; null if it was not recorded.",
        nullable=True,
    ),
    _column("run_id", TEXT, RUN_ID),
    _now("prepared_at", "Time at which the day was last prepared."),
    _column(
        "horizon_rows",
        postgresql.ARRAY(BIGINT),
        "Rows of features of each horizon, from 0; empty where all rows are of horizon 0.",
        server_default=sa.text("'{}'"),
    ),
    comment="Prepared days, including those without rows. Written last by prepare; sensors wait for it.",
)

journal = sa.Table(
    "journal",
    metadata,
    _key("project", TEXT, PROJECT),
    _key("sequence", BIGINT, "Number of the entry; entries are numbered in the order in which they were committed."),
    _column(
        "kind",
        TEXT,
        "delivery: it was landed. verdict: validation accepted or refused it. decision: of a person. "
        "prepared_day: the record of a run date. training: what the fits of a run date read. "
        "erasure: a person was erased.",
    ),
    _column(
        "subject",
        TEXT,
        "The delivery that the entry is about: its key and the start of its SHA-256. For a record, the run date and "
        "the number of the record, or the model, its run date and the watermark. For an erasure, the hash of the "
        "identifier.",
    ),
    _column("entry", JSONB, "The entry's own fields."),
    _column("by", TEXT, "Person who decided; null if nobody did.", nullable=True),
    _column("why", TEXT, "Reason of the decision or of the verdict; null if there is none.", nullable=True),
    _column("run_id", TEXT, RUN_ID),
    _now("recorded_at", "Time at which the entry was written."),
    comment="The journal: what this installation learned, in order. Entries are only added. What a run knows is a "
    "prefix of it.",
)

journal_blocks = sa.Table(
    "journal_blocks",
    metadata,
    _key("project", TEXT, PROJECT),
    _key("last_sequence", BIGINT, "Number of the last entry of the block."),
    _column("entries", TEXT, "JSON: for each entry a list of its number, kind, subject, fields as text, and reason."),
    comment="The journal again, 250 entries a row, so that a step reads few rows of it. The database makes them. "
    "Immutable.",
)

objects = sa.Table(
    "objects",
    metadata,
    _key("project", TEXT, PROJECT),
    _key("key", TEXT, "Path of the object below landing/<project>/."),
    _column("feed", TEXT, "Name of the feed."),
    _column("day", DATE, "Calendar day of the object, in the project's timezone."),
    _column("size", BIGINT, "Size in bytes."),
    _column("modified_at", MOMENT, "Time of the object in the landing."),
    _column("delivery_id", TEXT, "Delivery that the object became; null if it was refused.", nullable=True),
    _column("why", TEXT, "Reason why it was refused; null if it was landed.", nullable=True),
    _column("sidecar", BOOLEAN, "Whether its sidecar was there when it was read.", server_default=sa.text("false")),
    _column("run_id", TEXT, RUN_ID),
    _now("seen_at", "Time at which the object was last read."),
    comment="The objects in the landing that were read. An object that has not changed since is not read again, unless "
    "it was refused.",
)

outcome_days = sa.Table(
    "outcome_days",
    metadata,
    _key("project", TEXT, PROJECT),
    _key("outcome", TEXT, "Name of the outcome."),
    _key("day", DATE, "Calendar day, in the project's timezone, of the entities."),
    _column("delivery_id", TEXT, "Delivery that the outcomes of the day come from."),
    _column("available_from", MOMENT, "Time from which that delivery counts."),
    _column("sequence", BIGINT, "Number of that delivery in the journal; 0 if it was withdrawn or refused since."),
    _column("rows", BIGINT, "Number of outcomes."),
    _column("digest", TEXT, "SHA-256 of the outcomes."),
    _column("run_id", TEXT, RUN_ID),
    _now("recorded_at", "Time at which the day was last recorded."),
    comment="The delivery that the outcomes of each day come from, including those without rows. An older delivery "
    "never replaces a newer one.",
)

outcomes = sa.Table(
    "outcomes",
    metadata,
    _key("project", TEXT, PROJECT),
    _key("outcome", TEXT, "Name of the outcome."),
    _key("day", DATE, "Calendar day, in the project's timezone, of the entity."),
    _key("entity_id", BYTES_TEXT, ENTITY_ID),
    _column("value", DOUBLE, "The true result; null if it is known that there is none.", nullable=True),
    _column("delivery_id", TEXT, "Delivery that the outcome comes from."),
    _column("available_from", MOMENT, "Time from which that delivery counts."),
    _now("recorded_at", "Time at which the outcome was recorded."),
    _column("label", TEXT, "The true result in words, of an outcome with labels; otherwise null.", nullable=True),
    comment="Known outcomes. An entity without a row has no known outcome yet.",
)

quality_results = sa.Table(
    "quality_results",
    metadata,
    _id(),
    _column("project", TEXT, PROJECT),
    _column("feed", TEXT, "Name of the feed."),
    _column("day", DATE, "Calendar day of the delivery, in the project's timezone."),
    _column("delivery_id", TEXT, "Delivery: its key and the start of its SHA-256."),
    _column("expectation", TEXT, "Name of the expectation, as in Great Expectations."),
    _column("column_name", TEXT, "Column that was checked; null if the whole delivery was.", nullable=True),
    _column("severity", TEXT, "critical: invalid rows are quarantined or the delivery is refused. warning: reported."),
    _column("success", BOOLEAN, "True if the expectation was met."),
    _column("rows_evaluated", BIGINT, "Rows that were checked; null if the check is not about rows.", nullable=True),
    _column("unexpected_rows", BIGINT, "Rows that failed; null if the check is not about rows.", nullable=True),
    _column("observed", TEXT, "Observed value, such as a mean; null if rows were counted.", nullable=True),
    _column("run_id", TEXT, RUN_ID),
    _now("checked_at", "Time at which the delivery was validated."),
    _column(
        "quarantined_rows", BIGINT, "Rows that the expectation sent to quarantine_<project>__<feed>.", nullable=True
    ),
    _column(
        "examples",
        JSONB,
        "Up to three of the unexpected rows: row number, key and public values.",
        server_default=sa.text("'[]'"),
    ),
    comment="One row for each expectation and delivery. Validating a delivery again replaces its rows.",
)

step_runs = sa.Table(
    "step_runs",
    metadata,
    _id(),
    _column("project", TEXT, PROJECT),
    _column("model", TEXT, "Name of the model; null for steps of a project.", nullable=True),
    _column("step", TEXT, "Name of the step."),
    _column("interval_start", DATE, "First day that the step handled."),
    _column("interval_end", DATE, "Last day that the step handled."),
    _column("state", TEXT, "success, skipped or failed."),
    _column("rows", BIGINT, "Rows that the step wrote or read.", nullable=True),
    _column("seconds", DOUBLE, "Elapsed time in seconds."),
    _column(
        "core_seconds",
        DOUBLE,
        "CPU time in seconds, user and system, of the worker process and of its child processes that have ended. Work "
        "in processes that outlive the step, such as a Spark server, is not included. Null for a step on Databricks.",
        nullable=True,
    ),
    _column(
        "peak_memory_mb",
        DOUBLE,
        "Highest resident memory of the worker process during the step, in MiB, without child processes. Null for a "
        "step on Databricks and where the platform cannot reset the peak.",
        nullable=True,
    ),
    _column("table_version", BIGINT, "Version of the Delta table that the step made.", nullable=True),
    _column("model_version", BIGINT, "Version of the model that the step made.", nullable=True),
    _column("error_class", TEXT, "Class of the error that ended the step; its text is in the log.", nullable=True),
    _column("run_id", TEXT, RUN_ID),
    _column("started_at", MOMENT, "Time at which the step started."),
    _column("ended_at", MOMENT, "Time at which the step ended."),
    _column("part", TEXT, "Candidate that the step fitted; null for other steps.", nullable=True),
    _column("ran_on", DATE, "Calendar day of the end, in the project's timezone.", nullable=True),
    _column(
        "bytes_read",
        BIGINT,
        "Bytes that the worker process and its ended child processes read from files and pipes. Null for a step on "
        "Databricks and where the platform does not count them.",
        nullable=True,
    ),
    _column("bytes_written", BIGINT, "Bytes that they wrote likewise.", nullable=True),
    _column("libraries", TEXT, "Installed versions, in installed_libraries; null if unknown.", nullable=True),
    _column("dbus", DOUBLE, "Databricks units: databricks.dbu_per_hour times the elapsed time.", nullable=True),
    _column("cost", DOUBLE, "Cost by the prices declared when it ran; null without prices.", nullable=True),
    _column("currency", TEXT, "Currency of the cost.", nullable=True),
    comment="Every run of a step, how it ended and what it cost. Rows are only added.",
)

installed_libraries = sa.Table(
    "installed_libraries",
    metadata,
    _key("digest", TEXT, "Digest of the versions."),
    _column("versions", JSONB, "Version of Python and of each library that results depend on."),
    _now("seen_at", "Time at which a step ran with them first."),
    comment="The versions of libraries that steps ran with. Rows are only added.",
)

feed_punctuality = sa.Table(
    "feed_punctuality",
    metadata,
    _key("project", TEXT, PROJECT),
    _key("feed", TEXT, "Name of the feed."),
    _key("day", DATE, RUN_DATE),
    _column("supplier", TEXT, "Who delivers it, as project.yaml says; by default the feed."),
    _column("file_day", DATE, "Day of the delivery that was due."),
    _column("due_at", MOMENT, "Time by which it was due."),
    _column(
        "available_from",
        MOMENT,
        "Time from which the first delivery counts; null if there was none when the run date was prepared.",
        nullable=True,
    ),
    _column("late", BOOLEAN, "True if there was none by the time it was due."),
    _column("run_id", TEXT, RUN_ID),
    _now("measured_at", "Time of the measurement."),
    comment="Whether each feed's delivery came in time, as the record of the run date knew it.",
)

performance_estimates = sa.Table(
    "performance_estimates",
    metadata,
    _key("batch_id", UUID, "Batch that was measured."),
    _column("model", TEXT, "Name of the model."),
    _column("day", DATE, "Run date."),
    _key("metric", TEXT, "roc_auc, brier or log_loss of binary; accuracy of multiclass."),
    _column("value", DOUBLE, "Expected metric; null where it is not defined.", nullable=True),
    _column("rows", BIGINT, "Number of predictions."),
    _column("run_id", TEXT, RUN_ID),
    _now("estimated_at", "Time of the estimate."),
    comment="What each metric of a published batch will be if its scores are calibrated probabilities.",
)

score_health = sa.Table(
    "score_health",
    metadata,
    _key("batch_id", UUID, "Batch that was measured."),
    _column("model", TEXT, MODEL),
    _column("day", DATE, SCORED_DAY),
    _column("rows", BIGINT, "Number of predictions."),
    _column("distinct_scores", BIGINT, "Number of different scores."),
    _column("commonest_share", DOUBLE, "Share of the rows that have the commonest score."),
    _column(
        "saturated_share",
        DOUBLE,
        "Share of the rows whose score is 0 or 1 to nine digits; null if scores are no probabilities.",
        nullable=True,
    ),
    _column("run_id", TEXT, RUN_ID),
    _now("measured_at", "Time of the measurement."),
    comment="Numeric health of the scores of each published batch. Infinite scores are never written.",
)

INTERVAL = "the interval that has the measured value in 90 % of resamples of days; null if it has none."

gates = sa.Table(
    "gates",
    metadata,
    _key("gate_id", UUID, "Identifier derived from version, champion, rules, validation days and holdout days."),
    _column("model", TEXT, MODEL),
    _column("model_version", INTEGER, "Version that was evaluated."),
    _column("day", DATE, "Run date of its training."),
    _column("candidate", TEXT, "Candidate in model.yaml."),
    _column("champion_version", INTEGER, "Champion that it was compared with; null before the first.", nullable=True),
    _column("model_digest", TEXT, "Digest of the files of the version."),
    _column("rules_digest", TEXT, "Digest of the thresholds and of the code that checks them."),
    _column("passed", BOOLEAN, "True if all checks passed."),
    _column("checks", INTEGER, "Number of checks."),
    _column("validation_start", DATE, "First validation day, on which the candidate was chosen."),
    _column("validation_end", DATE, "Last validation day."),
    _column("holdout_start", DATE, "First holdout day."),
    _column("holdout_end", DATE, "Last holdout day."),
    _column("rows", BIGINT, "Rows of the holdout days."),
    _column("run_id", TEXT, RUN_ID),
    _now("decided_at", "Time of the decision."),
    comment="Decisions of the gate: one version compared with one champion by one set of rules. Immutable.",
)

gate_results = sa.Table(
    "gate_results",
    metadata,
    _key("gate_id", UUID, "Decision that the check belongs to."),
    _key("number", INTEGER, "Order of the checks."),
    _column("name", TEXT, "Name of the check."),
    _column("subject", TEXT, "What was measured: a metric, or a slice such as origin=EWR."),
    _column(
        "measured", DOUBLE, "Measured value; null if nothing could be measured, which never passes.", nullable=True
    ),
    _column("threshold", DOUBLE, "Threshold in model.yaml.", nullable=True),
    _column("passed", BOOLEAN, "True if the check passed."),
    _column("sentence", TEXT, "The result in words."),
    _column("low", DOUBLE, f"Lower end of {INTERVAL}", nullable=True),
    _column("high", DOUBLE, f"Upper end of {INTERVAL}", nullable=True),
    comment="The checks of each decision of the gate. Immutable.",
)

fits = sa.Table(
    "fits",
    metadata,
    _key("mlflow_run", TEXT, "MLflow run that has the fit."),
    _column("model", TEXT, MODEL),
    _column("candidate", TEXT, "Candidate in model.yaml; adopted: it was fitted elsewhere."),
    _column(
        "fit_end",
        DATE,
        "Newest day whose outcomes the fit has seen; of an adopted model, as the person who adopted it says.",
    ),
    _column("fit_digest", TEXT, "Digest of everything that decides the fit."),
    _column("model_digest", TEXT, "Digest of the files of the fitted model; no other files are ever loaded."),
    _column("run_id", TEXT, RUN_ID),
    _now("recorded_at", "Time at which the fit was recorded."),
    _column("horizon_days", INTEGER, "Largest horizon of the rows of the fit.", server_default=sa.text("0")),
    _column("trained_day", DATE, "Run date of the fit; null if an older version recorded it.", nullable=True),
    _column(
        "tags_digest",
        TEXT,
        "Digest of the tags of the MLflow run that later steps read back; null if an older version recorded the fit.",
        nullable=True,
    ),
    _column("adopted_from", TEXT, "Where an adopted model came from; null if it was fitted here.", nullable=True),
    _column("adopted_run", TEXT, "MLflow run that logged an adopted model there; null if unknown.", nullable=True),
    _column(
        "origin",
        postgresql.JSONB(none_as_null=True),
        "What the fit came from: commit, declarations, days, entry of the journal and versions of the tables that it "
        "read; null if an older version recorded it.",
        nullable=True,
    ),
    comment="The files of each fit. Immutable.",
)

model_versions = sa.Table(
    "model_versions",
    metadata,
    _key("model", TEXT, MODEL),
    _key("model_version", INTEGER, "Version in the registry."),
    _column("mlflow_run", TEXT, "MLflow run whose fit the version is.", sa.ForeignKey("fits.mlflow_run")),
    _column("run_id", TEXT, RUN_ID),
    _now("recorded_at", "Time at which the version was recorded."),
    _column(
        "semantic_version",
        TEXT,
        "Semantic version, such as 1.4.2; null if an older version of the product recorded the row.",
        nullable=True,
    ),
    _column("changed", TEXT, "What changed against the semantic version before.", nullable=True),
    comment="The fit that each version of a registered model is, whatever MLflow says later. Immutable.",
)

version_moves = sa.Table(
    "version_moves",
    metadata,
    _id(),
    _column("model", TEXT, MODEL),
    _column("model_version", INTEGER, "Version in the registry."),
    _column("from_state", TEXT, "State of the version before."),
    _column(
        "state",
        TEXT,
        "State from then on: registered, rejected, pending, champion, declined, superseded, expired or replaced.",
    ),
    _column("by", TEXT, "Person who decided, gate, or nightly-ml for what follows from a rule."),
    _column("why", TEXT, "Reason of the move."),
    _column("model_digest", TEXT, "Digest of the files of the version; null if no fit is recorded.", nullable=True),
    _column("gate_id", UUID, "Gate decision that the move follows from; null if it follows from none.", nullable=True),
    _column("promotion_id", BIGINT, "Promotion that the move belongs to; null if it belongs to none.", nullable=True),
    _column(
        "expires_at",
        MOMENT,
        "Of a pending version: the moment up to which it can be approved or declined.",
        nullable=True,
    ),
    _column("run_id", TEXT, RUN_ID),
    _now("created_at", "Time at which the row was written."),
    comment="The moves of versions between the states of their life. Whether a version is or was the champion is what "
    "the promotions say. Immutable.",
)

performance_daily = sa.Table(
    "performance_daily",
    metadata,
    _key("model", TEXT, MODEL),
    _key("day", DATE, SCORED_DAY),
    _key("model_version", INTEGER, SCORED_BY),
    _key("slice", TEXT, "Column by which the rows are divided, or the word all."),
    _key("slice_value", TEXT, "Value of that column, or the word all."),
    _key("metric", TEXT, "Name of the metric: log_loss, brier, roc_auc, calibration_gap, mae, rmse and others."),
    _column("value", DOUBLE, "Value of the metric; null if undefined, such as the AUC of one class.", nullable=True),
    _column("rows", BIGINT, "Rows with a known outcome that were measured."),
    _column("digest", TEXT, "Digest of batch, outcomes and declaration; the day is measured again when it changes."),
    _column("run_id", TEXT, RUN_ID),
    _now("measured_at", "Time of the measurement."),
    comment="How published predictions compare with outcomes. A day is measured again when its outcomes or its "
    "published batch change.",
)

shadow_days = sa.Table(
    "shadow_days",
    metadata,
    _key("model", TEXT, MODEL),
    _key("model_version", INTEGER, "Version that is the shadow."),
    _key("day", DATE, SCORED_DAY),
    _column("champion_version", INTEGER, "Champion that it is compared with."),
    _column("metric", TEXT, "Name of the loss, by which candidates are chosen, too."),
    _column("rows", BIGINT, "Rows that both predicted and whose outcome is known."),
    _column("loss", DOUBLE, "Mean loss of the shadow on these rows."),
    _column("champion_loss", DOUBLE, "Mean loss of the champion on the same rows."),
    _column("digest", TEXT, "Digest of both batches and the outcomes."),
    _column("run_id", TEXT, RUN_ID),
    _now("measured_at", "Time of the measurement."),
    comment="How shadows compare with the champion, by day. A day is measured again when a batch or its outcomes "
    "change.",
)

shadow_ends = sa.Table(
    "shadow_ends",
    metadata,
    _key("model", TEXT, MODEL),
    _key("model_version", INTEGER, "Version that was the shadow."),
    _column("day", DATE, "Run date on which it was decided."),
    _column("champion_version", INTEGER, "Champion that it was compared with; null if there was none.", nullable=True),
    _column("passed", BOOLEAN, "True if it was not worse than the champion."),
    _column("days", INTEGER, "Days whose outcomes were known."),
    _column("rows", BIGINT, "Rows that both predicted and whose outcome was known."),
    _column(
        "measured",
        DOUBLE,
        "Share by which its loss was over the champion's, at worst; null if it expired.",
        nullable=True,
    ),
    _column("threshold", DOUBLE, "Largest share allowed, as in the check champion of the gate."),
    _column("sentence", TEXT, "The result in words."),
    _column("run_id", TEXT, RUN_ID),
    _now("ended_at", "Time of the decision."),
    comment="How each shadow ended, with the figures. Immutable.",
)

drift_edges = sa.Table(
    "drift_edges",
    metadata,
    _key("model", TEXT, MODEL),
    _key("role", TEXT, "input, prediction or outcome."),
    _key("feature", TEXT, "Name of the feature, or of what is predicted."),
    _column(
        "edges",
        postgresql.ARRAY(DOUBLE),
        "Of a number: the edges between which values are counted, ascending; empty of a label.",
    ),
    _column(
        "labels",
        postgresql.ARRAY(sa.Text()),
        "Of a label: those with a count of their own; all others are counted together.",
    ),
    _column("center", DOUBLE, "Mean of the training data."),
    _column("scale", DOUBLE, "Standard deviation of the training data; 1 if it is 0."),
    _column("low", DOUBLE, "Smallest value of the training data."),
    _column("high", DOUBLE, "First number over the greatest value of the training data."),
    _column("discrete", BOOLEAN, "True if the training data have a few distinct values only."),
    _column("model_version", INTEGER, "Version whose training data were used."),
    _column("run_id", TEXT, RUN_ID),
    _now("frozen_at", "Time at which they were frozen."),
    _key("decision", INTEGER, "Decision in drift_freezes because of which they were frozen; 0: none."),
    comment="How values are counted, by feature, frozen from the training data of a model's first champion, or of its "
    "newest one when a person decided so. Immutable; those with the highest number count.",
)

drift_freezes = sa.Table(
    "drift_freezes",
    metadata,
    _key("model", TEXT, "Name of the model."),
    _key("decision", INTEGER, "Number of the decision; edges frozen because of it have it, too."),
    _column("by", TEXT, "Who decided."),
    _column("why", TEXT, "The reason."),
    _column("run_id", TEXT, RUN_ID),
    _now("decided_at", "Time of the decision."),
    comment="Decisions to freeze the edges of a model again, because a change of its data is accepted. Immutable.",
)

storage_daily = sa.Table(
    "storage_daily",
    metadata,
    _key("project", TEXT, PROJECT),
    _key("day", DATE, "Calendar day of the measurement, in the project's timezone."),
    _column(
        "bytes",
        BIGINT,
        "Bytes of the files of its tables, those of older versions included, as far as they are still there.",
    ),
    _column("cost", DOUBLE, "Cost of the day by the prices declared then; null without prices.", nullable=True),
    _column("currency", TEXT, "Currency of the cost.", nullable=True),
    _column("run_id", TEXT, RUN_ID),
    _now("measured_at", "Time of the measurement."),
    comment="Bytes of the tables of each project, measured once a day by the step monitor, and what a day of them "
    "costs.",
)

drift_summaries = sa.Table(
    "drift_summaries",
    metadata,
    _key("model", TEXT, MODEL),
    _key("day", DATE, "Calendar day of the values: the run date of inputs and predictions, the day of outcomes."),
    _key("role", TEXT, "input, prediction or outcome."),
    _key("feature", TEXT, "Name of the feature, or of what is predicted."),
    _key("slice", TEXT, "Column by which the rows are divided, or the word all."),
    _key("slice_value", TEXT, "Value of that column, or the word all."),
    _column("rows", BIGINT, "Rows, those without a value included."),
    _column("missing", BIGINT, "Rows without a value."),
    _column("counts", postgresql.ARRAY(BIGINT), "Rows between the edges, or with each label and with any other."),
    _column("low", DOUBLE, "Smallest value; null of a label, and if there is none.", nullable=True),
    _column("high", DOUBLE, "Greatest value.", nullable=True),
    _column("total", DOUBLE, "Sum of (value - center) / scale."),
    _column("squares", DOUBLE, "Sum of the squares of it."),
    _column("fingerprint", TEXT, "Digest of all values; null where equal days are no surprise.", nullable=True),
    _column("digest", TEXT, "Digest of what the day was summarised from; it is summarised again when that changes."),
    _column("run_id", TEXT, RUN_ID),
    _now("summarised_at", "Time of the summary."),
    comment="Summaries of a day by feature, which add up. A day is summarised again when its data change.",
)

drift_daily = sa.Table(
    "drift_daily",
    metadata,
    _key("model", TEXT, MODEL),
    _key("day", DATE, RUN_DATE),
    _key("role", TEXT, "input, prediction or outcome."),
    _key("feature", TEXT, "Name of the feature, or of what is predicted; (rows) for the number of rows."),
    _key("slice", TEXT, "Column by which the rows are divided, or the word all."),
    _key("slice_value", TEXT, "Value of that column, or the word all."),
    _key(
        "reference",
        TEXT,
        "weeks: the same weekdays of the four weeks before. training: the training data of the version.",
    ),
    _column("days", INTEGER, "How many of the newest days are compared together."),
    _column("model_version", INTEGER, "Version that predicted on the day; null if none did.", nullable=True),
    _column("rows", BIGINT, "Rows of these days."),
    _column(
        "shift",
        DOUBLE,
        "Wasserstein distance, in standard deviations of the training data; null of a label.",
        nullable=True,
    ),
    _column(
        "spread",
        DOUBLE,
        "Logarithm of the ratio of standard deviations, without its sign; null of a label.",
        nullable=True,
    ),
    _column("shape", DOUBLE, "Jensen-Shannon distance (base 2), from 0 to 1.", nullable=True),
    _column("psi", DOUBLE, "Population stability index.", nullable=True),
    _column("missing", DOUBLE, "Difference of the shares of rows without a value.", nullable=True),
    _column(
        "outside",
        DOUBLE,
        "Share of values outside the range of the training data, beyond that of the reference; null of a label.",
        nullable=True,
    ),
    _column(
        "new",
        DOUBLE,
        "Share of values that the training data lack, beyond that of the reference; null of a number with many values.",
        nullable=True,
    ),
    _column(
        "vanished",
        DOUBLE,
        "Share, in the reference, of labels that no row has any more; null of a number.",
        nullable=True,
    ),
    _column(
        "strength",
        DOUBLE,
        "Greatest effect as a multiple of its limit; from 1 on it is large. Null if it is not compared with a limit.",
        nullable=True,
    ),
    _column("digest", TEXT, "Digest of the results of the run date; they are written again when it changes."),
    _column("run_id", TEXT, RUN_ID),
    _now("measured_at", "Time of the measurement."),
    comment="How far each feature is from a reference period on each run date.",
)

freshness = sa.Table(
    "freshness",
    metadata,
    _key("project", TEXT, PROJECT),
    _key("subject", TEXT, "Name of a table, or of a model for its published predictions."),
    _key("day", DATE, RUN_DATE),
    _column("newest_day", DATE, "Newest day that the subject has; null if it has none.", nullable=True),
    _column("behind_days", INTEGER, "Days by which that day is behind the expected one.", nullable=True),
    _column("late", BOOLEAN, "True if it is further behind than allowed."),
    _column("sentence", TEXT, "The state in words."),
    _column("run_id", TEXT, RUN_ID),
    _now("measured_at", "Time of the measurement."),
    comment="The newest day of each table and of each model's published predictions, for each run date.",
)

alerts = sa.Table(
    "alerts",
    metadata,
    _id(),
    _column("project", TEXT, PROJECT),
    _column("subject", TEXT, "Model or table that the alert is about."),
    _column("rule", TEXT, "Rule that was broken."),
    _column("day", DATE, RUN_DATE),
    _column("sentence", TEXT, "The message."),
    _column("run_id", TEXT, RUN_ID),
    _now("raised_at", "Time at which the alert was raised."),
    _column(
        "notified_at",
        MOMENT,
        "Time at which a notifier took the alert, before alerts had messages; null for all since then.",
        nullable=True,
    ),
    _column("message_id", BIGINT, "Message that has the alert.", nullable=True),
    comment="Alerts: one for each subject, rule and run date, even if the run is repeated.",
)

incident_records = sa.Table(
    "incident_records",
    metadata,
    _id(),
    _column("project", TEXT, "Name of the project; empty for the DAGs of the bundle."),
    _column("scope", TEXT, "Whose looks decide whether the cause is gone, such as monitor; task: its success decides."),
    _column("cause", TEXT, "Digest of rule, subject and occurrence."),
    _column(
        "rule",
        TEXT,
        "Kind of cause: the rule that is broken, feed_late, not_prepared, task_failed or run_failed.",
    ),
    _column("subject", TEXT, "Model, feed, project, task or DAG that the incident is about."),
    _column("occurrence", TEXT, "Run date of a failed task; empty for what is seen on many run dates."),
    _column("models", postgresql.ARRAY(sa.Text()), "Models that it affects."),
    _column("first_day", DATE, "First run date on which the cause was seen."),
    _column("last_day", DATE, "Last run date on which the cause was seen."),
    _column(
        "recovered_day",
        DATE,
        "First run date after that on which it is gone; null while it is open.",
        nullable=True,
    ),
    _column("severity", TEXT, "critical, high or low."),
    _column("what", TEXT, "What happened, as of the newest run date that saw it."),
    _column("effect", TEXT, "What readers see."),
    _column("command", TEXT, "What to type when the cause is fixed; empty if the runbook decides."),
    _column("runbook", TEXT, "Page of the runbook; empty without one."),
    _column("owner", TEXT, "Who owns it; empty if nobody is named."),
    _column("more", postgresql.ARRAY(sa.Text()), "Further lines of the message, such as where the log is."),
    _column("badness", DOUBLE, "How bad it is, a number that grows; null if it is not measured.", nullable=True),
    _column("sent_severity", TEXT, "Severity in the newest message about it; null without one.", nullable=True),
    _column("sent_badness", DOUBLE, "How bad it was in that message.", nullable=True),
    _column("message_id", BIGINT, "Newest message about it; null without one.", nullable=True),
    _now("opened_at", "Time at which it was opened."),
    _column("recovered_at", MOMENT, "Time at which it was found gone; null while it is open.", nullable=True),
    _column("acknowledged_by", TEXT, "Person who takes care of it, as typed.", nullable=True),
    _column(
        "snoozed_until",
        MOMENT,
        "Time until which nothing is sent about it; null if it is not snoozed.",
        nullable=True,
    ),
    _column("snoozed_severity", TEXT, "Its severity when it was snoozed; above it, it is sent again.", nullable=True),
    _column("merged_into", BIGINT, "Incident that it turned out to be a part of; null otherwise.", nullable=True),
    comment="Incidents: one cause each, from the first to the last run date on which it was seen.",
)

incident_looks = sa.Table(
    "incident_looks",
    metadata,
    _key("project", TEXT, PROJECT),
    _key("scope", TEXT, "Who looked, such as monitor."),
    _key("day", DATE, RUN_DATE),
    _column(
        "blind",
        postgresql.ARRAY(sa.Text()),
        "Models whose monitors failed in each run of the run date, and the empty text for those of the project.",
        server_default="{}",
    ),
    comment="Run dates that looked. A cause that one of them did not see is gone as of that run date, unless whoever "
    "would have seen it was blind.",
)

incident_days = sa.Table(
    "incident_days",
    metadata,
    _key("project", TEXT, PROJECT),
    _key("scope", TEXT, "Who looked, such as monitor."),
    _key("cause", TEXT, "Digest of rule, subject and occurrence."),
    _key("day", DATE, RUN_DATE),
    _column("gone", BOOLEAN, "True if a later look on the same run date found it gone.", server_default=sa.false()),
    comment="Run dates on which each cause was seen. Incidents follow from these rows, in any order of runs.",
)

incident_failures = sa.Table(
    "incident_failures",
    metadata,
    _key("incident_id", BIGINT, "Incident that the failure belongs to."),
    _key("dag_id", TEXT, "DAG."),
    _key("task_id", TEXT, "Task; empty for a run that failed as a whole."),
    _key("run_id", TEXT, "Airflow run."),
    _key("map_index", INTEGER, "Which of several tasks; -1 for one that is not mapped."),
    _column("try_number", INTEGER, "Newest try that failed."),
    _column("is_effect", BOOLEAN, "True if it only waited for what another DAG did not make."),
    _column("project", TEXT, "Name of the project; empty for the DAGs of the bundle."),
    _column("model", TEXT, "Name of the model; null for a DAG of a project.", nullable=True),
    _column("day", DATE, "Run date; null without one, and for a range.", nullable=True),
    _column("done_by", TEXT, "Step whose success for the run date shows that it was made good.", nullable=True),
    _now("failed_at", "Time at which the failure was reported."),
    _column("succeeded_at", MOMENT, "Time at which it was found to be made good; null until then.", nullable=True),
    comment="Failed tasks and runs of incidents. An incident recovers when each of its failures was made good.",
)

incident_events = sa.Table(
    "incident_events",
    metadata,
    _id(),
    _column("incident_id", BIGINT, "Incident."),
    _column("kind", TEXT, "opened, updated, reopened, recovered, acknowledged, snoozed or closed."),
    _column("day", DATE, "Run date that noticed it; null for what a person did.", nullable=True),
    _column("severity", TEXT, "Severity of the incident then."),
    _column("message_id", BIGINT, "Message that says so; null if none was sent.", nullable=True),
    _column("by", TEXT, "Person who decided, as typed; null if nobody did.", nullable=True),
    _column("why", TEXT, "Reason, as typed; null if nobody decided.", nullable=True),
    _column("until", MOMENT, "End of a snooze; otherwise null.", nullable=True),
    _column("run_id", TEXT, RUN_ID),
    _now("happened_at", "Time at which the row was written."),
    comment="What happened to incidents, and what people decided about them. Immutable.",
)

messages = sa.Table(
    "messages",
    metadata,
    _id(),
    _column("key", TEXT, "Idempotency key: a message is stored once, and sent with this header."),
    _column("kind", TEXT, "What the message is about: task_failed, run_failed, alerts, question, watch, action."),
    _column("channel", TEXT, "What the content is: chat, a text. The connection says how it is delivered."),
    _column("destination", TEXT, "Name of the connection with the address. The address itself is a secret."),
    _column("payload", JSONB, "The content."),
    _column("subject", TEXT, "Task, DAG, model or table that the message is about."),
    _column("run_id", TEXT, "Airflow run that caused it, or by-hand."),
    _column("task", TEXT, "Task that caused it, as <dag>.<task>; null if no single one did.", nullable=True),
    _now("created_at", "Time at which the message was stored."),
    _now(
        "not_before",
        "Time from which the next try may start. A sender that takes the message moves it by a minute.",
    ),
    _column("deadline", MOMENT, "Time after which the message is given up."),
    _column(
        "hold_until",
        MOMENT,
        "Time until which the receiver asked not to be called (Retry-After): no message goes there before.",
        nullable=True,
    ),
    _column("attempts", INTEGER, "Number of tries that were begun.", server_default="0"),
    _column(
        "last_error",
        TEXT,
        "Why the last try failed; null if none did. It has neither address nor data.",
        nullable=True,
    ),
    _column("sent_at", MOMENT, "Time at which the receiver had accepted it; null until then.", nullable=True),
    _column("given_up_at", MOMENT, "Time at which it was given up; null unless it was.", nullable=True),
    comment="The outbox: everything that is sent, from the transaction with its cause until the receiver accepted it.",
)

watches = sa.Table(
    "watches",
    metadata,
    _key("watcher", TEXT, "Name of the watcher."),
    _column("looked_at", MOMENT, "Time at which it last looked, by its clock."),
    _column("every_seconds", INTEGER, "How often it looks, in seconds."),
    _column("findings", JSONB, "What was wrong then: a list of sentences."),
    comment="When the watcher last looked at deadlines, Airflow and the outbox, and what it found.",
)

locks = sa.Table(
    "locks",
    metadata,
    _key("name", TEXT, "What is locked, such as publish and a model."),
    comment="Locks of writers: a row is locked to the end of a transaction, with SELECT FOR UPDATE. Readers cannot.",
)

pulls = sa.Table(
    "pulls",
    metadata,
    _key("pull_id", UUID, "Identifier of the pull."),
    _column("project", TEXT, PROJECT),
    _column("first_day", DATE, "First run date that was asked for."),
    _column("last_day", DATE, "Last run date that was asked for."),
    _column("entity_fraction", DOUBLE, "Share of the entities that was asked for."),
    _column("by", TEXT, "Person who pulled, as typed."),
    _column("why", TEXT, "Reason, as typed."),
    _column("login", TEXT, "Database login of that person.", server_default=sa.text("session_user")),
    _column("hash_key", TEXT, "Fingerprint of the keys that the rows were hashed with here."),
    _now("begun_at", "Time at which the pull was entered."),
    comment="Pulls of prepared data to laptops, each entered before its first row was read. Immutable.",
)

pulled = sa.Table(
    "pulled",
    metadata,
    _key("pull_id", UUID, "Identifier of the pull."),
    _column("rows", BIGINT, "Rows that it took."),
    _now("ended_at", "Time at which its rows were complete."),
    comment="What each pull that ended took. Immutable.",
)


erasures = sa.Table(
    "erasures",
    metadata,
    _id(),
    _column("project", TEXT, PROJECT),
    _column("sequence", BIGINT, "Entry of the journal that has who asked, when, why, and the hash."),
    _column("place", TEXT, "Table or store; finished: every place was searched again after the removal."),
    _column(
        "rows",
        BIGINT,
        "Rows removed there, by this run; of a Delta table, those of all its files, older versions included.",
    ),
    _column("run_id", TEXT, RUN_ID),
    _column(
        "transaction",
        BIGINT,
        "Transaction that wrote the row: in it alone, the owner may remove predictions.",
        server_default=sa.text("((pg_current_xact_id())::text)::bigint"),
    ),
    _now("erased_at", "Time at which the row was written."),
    comment="What was removed when a person was erased, by place, and that nothing of it was left. Immutable.",
)


skew_checks = sa.Table(
    "skew_checks",
    metadata,
    _key("model", TEXT, "Name of the model."),
    _key("day", DATE, "Run date of the published predictions."),
    _key("batch_id", UUID, "Batch that was checked."),
    _column("model_version", INTEGER, "Version that made it."),
    _column("state", TEXT, "compared, skipped, or failed: nothing could be built again."),
    _column("why", TEXT, "Why nothing was compared; empty otherwise."),
    _column("rows", BIGINT, "Published rows that were compared."),
    _column(
        "exact",
        BOOLEAN,
        "True if features had to be equal to the bit, false if up to 1e-9 of their size, as of Databricks. Predictions "
        "are always compared up to that.",
    ),
    _column("missing", BIGINT, "Rows that are on one side only."),
    _column("features", JSONB, "Rows that differ, by column of the features."),
    _column("scores", JSONB, "Rows that differ, by column of the predictions."),
    _column("signature", JSONB, "Columns that are other than in training, in sentences."),
    _column("unseen", JSONB, "Share of rows with a label that training did not have, by input."),
    _column("outside", JSONB, "Share of rows with a number outside of those of training, by input."),
    _column("far", JSONB, "Share of rows with a number further outside than the range of training is wide, by input."),
    _column("run_id", TEXT, RUN_ID),
    _now("checked_at", "Time of the check."),
    comment="Published predictions that were built again from the raw tables and compared, one row for each batch. It "
    "has no values of rows.",
)

training_summaries = sa.Table(
    "training_summaries",
    metadata,
    _key("model", TEXT, "Name of the model."),
    _key("model_version", INTEGER, "Version in the registry."),
    _column("rows", BIGINT, "Labelled rows of its training; 0 if they are not known any more."),
    _column("inputs", JSONB, "By input: least and greatest number, or digests of the labels."),
    _column("types", JSONB, "Type of each column of the features that it was trained on."),
    _column(
        "constant",
        postgresql.JSONB(none_as_null=True),
        "The dummy baseline: the best constant on the rows that it was fitted on; null if they are not known any more.",
        nullable=True,
    ),
    _column("why", TEXT, "Why the rows are not known; empty otherwise."),
    _column("run_id", TEXT, RUN_ID),
    _now("recorded_at", "Time at which the row was written."),
    _column(
        "predicts",
        postgresql.JSONB(none_as_null=True),
        "What its scores mean: problem type, quantiles and classes; null if it was not recorded.",
        nullable=True,
    ),
    comment="What each version was trained on, in a few numbers, for comparison with what it scores. Labels of "
    "inputs are digests.",
)

champion_comparisons = sa.Table(
    "champion_comparisons",
    metadata,
    _key("model", TEXT, "Name of the model."),
    _key("day", DATE, "Run date of the published predictions."),
    _key("model_version", INTEGER, "Version that scored the rows; 0 is the dummy baseline of the champion."),
    _key("slice", TEXT, "Column by which the rows are divided, or the word all."),
    _key("slice_value", TEXT, "Value of that column, or the word all."),
    _column(
        "place", INTEGER, "-1: the dummy baseline; 0: the champion; 1: the champion before, 2: the one before that."
    ),
    _column("champion_version", INTEGER, "Version whose predictions are published."),
    _column("last_day", DATE, "Last day that the run date predicts."),
    _column("metric", TEXT, "Name of the loss, by which candidates are chosen, too."),
    _column("rows", BIGINT, "Rows that all of them scored and whose outcome is known."),
    _column("loss", DOUBLE, "Mean loss on these rows."),
    _column("digest", TEXT, "Digest of batch, outcomes, versions and declaration."),
    _column("run_id", TEXT, RUN_ID),
    _now("measured_at", "Time of the measurement."),
    comment="The champion, former champions and the dummy baseline on the same published rows with known outcomes, by "
    "run date. A day is measured again when its batch, its outcomes or what it is compared with change.",
)

retrainings = sa.Table(
    "retrainings",
    metadata,
    _key("model", TEXT, "Name of the model."),
    _key("day", DATE, "Run date of the training."),
    _column("project", TEXT, "Name of the project."),
    _column("rules", JSONB, "Rules whose alerts ask for it."),
    _column("why", TEXT, "Reason in words."),
    _column("run_id", TEXT, RUN_ID),
    _now("requested_at", "Time at which it was asked for."),
    comment="Trainings that monitoring asked for, one for each model and run date. Immutable.",
)


def as_predicted(columns: Any, names: Iterable[str] = PREDICTION_COLUMNS) -> list[sa.ColumnElement[Any]]:
    """Return the columns of predictions as frames have them: JSON as text, which is a value of Arrow."""
    return [sa.cast(columns[name], TEXT).label(name) if name in OF_JSON else columns[name] for name in names]


def entities(project: str, *columns: str) -> sa.Table:
    """Return the table of a project's entities, with its key and the given columns.

    What a project declares decides the other columns and all types: see `migrations/entities.py`.
    """
    key = (
        sa.Column("day", DATE, primary_key=True),
        sa.Column("horizon", INTEGER, primary_key=True),
        sa.Column("entity_id", BYTES_TEXT, primary_key=True),
    )
    return sa.Table(entities_table(project), sa.MetaData(), *key, *map(sa.Column, columns))
