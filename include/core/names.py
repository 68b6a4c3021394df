"""The names of tables, in one place. Layer first, then what the rows are about; no reading or writing here."""

from decimal import Decimal

from include import __version__

COMMIT_LENGTH = 12  # of a commit in a version, as in run records


def deliveries_table(project: str) -> str:
    """One row a delivery of any feed of the project."""
    return f"deliveries_{project}"


def raw_table(feed: str) -> str:
    """Rows as landed, personal data already protected."""
    return f"raw_{feed}"


def clean_table(feed: str) -> str:
    """Typed, valid rows: one a key and delivery."""
    return f"clean_{feed}"


def quarantine_table(feed: str) -> str:
    """Rows of accepted deliveries that broke a critical expectation, as text."""
    return f"quarantine_{feed}"


def features_table(project: str, entity_fraction: float = 1) -> str:
    """One row an entity, day and data_view. Of a share of the entities in a table of its own, which only a training on
    that sample reads."""
    return f"features_{project}" + (
        "" if entity_fraction == 1 else f"_fraction_{Decimal(str(entity_fraction)):f}".replace(".", "_")
    )


def scores_table(model: str, data_view: str = "point_in_time") -> str:
    """One row an entity, day and model version; what was scored with later data_view stands beside it."""
    return f"scores_{model}" if data_view == "point_in_time" else f"scores_{model}_{data_view}"


def entities_table(project: str) -> str:
    """PostgreSQL: the declared public columns of each entity."""
    return f"entities_{project}"


def entities_view(project: str) -> str:
    """PostgreSQL: what the role `reader` sees of `entities_table`."""
    return f"{project}_entities"


def experiment(project: str, model: str) -> str:
    """MLflow experiment of a model."""
    return f"{project}/{model}"


def wheel_version(commit: str) -> str:
    """The version of the wheel of a commit; of so many characters of it, or more."""
    return f"{__version__}+g{commit[:COMMIT_LENGTH]}"


def wheel(commit: str) -> str:
    """The file of that wheel, which Databricks runs."""
    return f"nightly_ml-{wheel_version(commit)}-py3-none-any.whl"
