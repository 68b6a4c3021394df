"""The names of tables, views, experiments and wheels, in one place.

A table's name starts with its layer, then says what the rows are about. Two underscores stand between project and feed,
because no name has two of them in a row. Nothing here reads or writes.
"""

from decimal import Decimal

from include import __version__

COMMIT_LENGTH = 12  # characters of a commit in a version, as in run records


def raw_table(project: str, feed: str) -> str:
    """Return the table of rows as landed, with personal data already protected."""
    return f"raw_{project}__{feed}"


def key_mark(fingerprint: str) -> str:
    """Return the mark of the commit that hashed all rows of a table by the keys with this fingerprint."""
    return f"hash_key:{fingerprint}"


def clean_table(project: str, feed: str) -> str:
    """Return the table of typed, valid rows, with one row for each key and delivery."""
    return f"clean_{project}__{feed}"


def quarantine_table(project: str, feed: str) -> str:
    """Return the table of rows of accepted deliveries that broke a critical expectation, as text."""
    return f"quarantine_{project}__{feed}"


def features_table(project: str, entity_fraction: float = 1) -> str:
    """Return the table with one row for each entity, day and data view.

    A fraction of the entities has a table of its own, which only a training with that fraction reads.
    """
    return f"features_{project}" + (
        "" if entity_fraction == 1 else f"_fraction_{Decimal(str(entity_fraction)):f}".replace(".", "_")
    )


def scores_table(model: str, data_view: str = "point_in_time") -> str:
    """Return the table with one row for each entity, day and model version; each data view has a table of its own."""
    return f"scores_{model}" if data_view == "point_in_time" else f"scores_{model}_{data_view}"


def entities_table(project: str) -> str:
    """Return the PostgreSQL table with the declared public columns of each entity."""
    return f"entities_{project}"


def entities_view(project: str) -> str:
    """Return the PostgreSQL view of `entities_table` for the role `reader`."""
    return f"{project}_entities"


def predictions_view(model: str) -> str:
    """Return the PostgreSQL view of a model's published predictions with entities and outcomes, for all readers."""
    return f"{model}_predictions"


def experiment(project: str, model: str) -> str:
    """Return the MLflow experiment of a model."""
    return f"{project}/{model}"


def wheel_version(commit: str) -> str:
    """Return the version of a commit's wheel. The commit has at least `COMMIT_LENGTH` characters."""
    return f"{__version__}+g{commit[:COMMIT_LENGTH]}"


def wheel(commit: str) -> str:
    """Return the file name of a commit's wheel, which Databricks runs."""
    return f"nightly_ml-{wheel_version(commit)}-py3-none-any.whl"


def wheel_requirements(commit: str) -> str:
    """Return the name of the file beside a commit's wheel that lists the wheel and its packages, with hashes."""
    return f"nightly_ml-{wheel_version(commit)}-requirements.txt"
