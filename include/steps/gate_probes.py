"""What the gate measures beyond the scores of one version: another fit, former champions, and what came too late."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date, datetime

import numpy as np
import polars as pl
from sklearn.base import clone
from threadpoolctl import threadpool_limits

from include.config.model import Model
from include.core.errors import ActionRequiredError
from include.core.journal import Known
from include.core.settings import Settings
from include.gate.evidence import FormerChampion
from include.io import postgres
from include.io.registry import LoadedModel, Registry
from include.training.declared import rows_to_fit
from include.training.training_set import estimator_inputs
from include.training.transforms import Transform


def refit_of(
    challenger: LoadedModel,
    fitted: Callable[[np.ndarray], pl.DataFrame],
    held_out: pl.DataFrame,
    transforms: Sequence[Transform] = (),
) -> Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]:
    """Return what fits a copy of the version's estimator with other outcomes, and scores holdout rows with it.

    Rows that the transforms of its candidate remove are not learned from, as in the fit. `fitted` returns the
    features of rows fitted on, by their numbers.
    """

    def refit(learn: np.ndarray, truth: np.ndarray, test: np.ndarray) -> np.ndarray:
        estimator = clone(challenger.estimator)
        inputs = estimator_inputs(fitted(learn), challenger.numeric, challenger.categorical)
        stays = rows_to_fit(transforms, inputs)
        with threadpool_limits(1):
            estimator.fit(inputs[stays], truth[stays])
        return replace(challenger, estimator=estimator).predict(held_out[test])

    return refit


def former_champions_of(
    model: Model,
    version: int,
    day: date,
    registry: Registry,
    settings: Settings,
    score: Callable[[str, LoadedModel], np.ndarray | str],
) -> Callable[[int], Sequence[FormerChampion]]:
    """Return what scores the holdout rows with the champions before the champion to beat.

    Args:
        model: the model.
        version: the version that the gate decides on.
        day: its run date.
        registry: has the versions.
        settings: the database that knows their files.
        score: returns the scores of a loaded version, called by its name, or why it cannot score these rows.
    """

    def former(most: int) -> list[FormerChampion]:
        numbers = postgres.promotions.read_former_champions(settings, model.name, version, day, most)
        recorded = postgres.model_files.read_versions(settings, model.name)
        found = []
        for number in numbers:
            if number not in recorded:
                found.append(FormerChampion(number, missing="its files were never recorded"))
                continue
            try:
                loaded = registry.load(registry.get_version(model.name, number), recorded[number].model_digest, model)
                scores = score(f"former champion {number}", loaded)
            except ActionRequiredError as error:
                scores = str(error)
            if isinstance(scores, str):
                found.append(FormerChampion(number, missing=scores))
            else:
                found.append(FormerChampion(number, scores, saw=recorded[number].fit_end))
        return found

    return former


def too_late(rows: pl.DataFrame, journal: Known) -> np.ndarray:
    """Return for each row whether its run date was prepared with a delivery that came after what the run date knows.

    The record of a prepared day has the moment up to which it knows deliveries, and the deliveries that its features
    read. A required file that was missing then is read by a later run of that day.

    Args:
        rows: with the run date in the column `day`.
        journal: up to the watermark of the training.
    """
    came: dict[str, datetime] = dict(journal.deliveries.select("delivery_id", "available_from").iter_rows())
    late = [
        day
        for day in rows["day"].unique().to_list()
        if day in journal.records
        for record in (journal.records[day],)
        if any(came.get(delivery, record.as_of) > record.as_of for delivery in record.deliveries)
    ]
    return rows["day"].is_in(late).to_numpy()
