"""The datasets that a fit read, as MLflow inputs that can be loaded again. Other modules decide what a fit reads."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import polars as pl
from deltalake import DeltaTable, QueryBuilder
from mlflow.data.dataset_source import DatasetSource
from mlflow.data.dataset_source_registry import register_dataset_source
from mlflow.entities import Dataset, DatasetInput, InputTag
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT


class DeltaPart(DatasetSource):
    """The rows of a Delta table at one version that fulfil a predicate.

    MLflow's own Delta source has no predicate and drops version 0.
    """

    def __init__(self, path: str, version: int, predicate: str) -> None:
        self.path, self.version, self.predicate = path, version, predicate

    @staticmethod
    def _get_source_type() -> str:
        return "delta_part"

    @staticmethod
    def _can_resolve(raw_source: Any) -> bool:
        return False  # MLflow must not guess this source from a string

    @classmethod
    def _resolve(cls, raw_source: Any) -> "DeltaPart":
        raise NotImplementedError

    def load(self, **options: Any) -> pl.DataFrame:
        """Return the rows.

        Args:
            options: passed to `DeltaTable`, such as `storage_options`.
        """
        table = DeltaTable(self.path, version=self.version, **options)
        query = f"SELECT * FROM part WHERE {self.predicate}"  # noqa: S608  # delta-rs's own dialect, written by Scope
        return pl.DataFrame(QueryBuilder().register("part", table).execute(query).read_all())

    def to_dict(self) -> dict[str, Any]:
        """Return the source as a mapping for `from_dict`."""
        return {"path": self.path, "version": self.version, "predicate": self.predicate}

    @classmethod
    def from_dict(cls, source_dict: dict[Any, Any]) -> "DeltaPart":
        """Make the source from the mapping of `to_dict`."""
        return cls(**source_dict)


register_dataset_source(DeltaPart)  # type: ignore[arg-type]  # it accepts the class, despite its annotation


MAX_LISTED = 500  # deliveries that a profile lists: MLflow keeps a profile in one row of its database


@dataclass(frozen=True)
class FitInput:
    """A dataset that a fit read.

    Attributes:
        name: its table.
        source: the rows of the table.
        rows: how many rows of the training set have something of it.
        context: what it was read for.
        deliveries: the deliveries that it was made from.
        origin: where it came from, and which code read it, as tags: project, feeds, commit and others.
    """

    name: str
    source: DeltaPart
    rows: int
    context: str = "training"
    deliveries: tuple[str, ...] = ()
    origin: Mapping[str, str] = field(default_factory=dict)

    @property
    def deliveries_digest(self) -> str:
        """SHA-256 of the sorted deliveries, a line each."""
        return sha256("\n".join(sorted(self.deliveries)).encode()).hexdigest()


def mlflow_input(item: FitInput) -> DatasetInput:
    """Return the input as MLflow logs it."""
    source = item.source.to_json()
    entity = Dataset(
        name=item.name,
        # MLflow stores one dataset for each name and digest, with its first source. So this is the source's digest.
        digest=sha256(source.encode()).hexdigest()[:16],
        source_type=DeltaPart._get_source_type(),
        source=source,
        profile=json.dumps({
            "num_rows": item.rows,
            "num_deliveries": len(item.deliveries),
            "deliveries": sorted(item.deliveries)[:MAX_LISTED],
        }),
    )
    # Tags belong to the run and the dataset, so two runs can read the same rows by other code.
    about = {**item.origin, "deliveries": str(len(item.deliveries)), "deliveries_digest": item.deliveries_digest}
    tags = [InputTag(MLFLOW_DATASET_CONTEXT, item.context), *(InputTag(*tag) for tag in about.items())]
    return DatasetInput(dataset=entity, tags=tags)
