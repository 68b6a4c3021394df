"""The candidates of every model here, shipped or of the tests, can be saved and loaded as `model.yaml` declares."""

import numpy as np
import polars as pl
import pytest

from include.config.loading import load_model, model_names
from include.io.registry.models import LoadedModel, reference_rows, saved
from include.steps import fit as fit_step
from include.training.training_set import estimator_inputs
from tests.unit.io.test_model_files import load


@pytest.mark.filterwarnings("ignore::RuntimeWarning:sklearn")
@pytest.mark.parametrize("name", model_names())
def test_the_candidates_of_every_model_here_can_be_saved_as_declared(name: str) -> None:
    """They are loaded, and score to the bit what they scored before."""
    model, rng, n = load_model(name), np.random.default_rng(1), 600
    rows = pl.DataFrame(
        {column: rng.normal(size=n) for column in model.numeric}
        | {column: rng.choice([*"abcdefgh"], n) for column in model.categorical}
    )
    X = estimator_inputs(rows, model.numeric, model.categorical)
    y = (rows[model.numeric[0]] + rng.normal(size=n) > 0).cast(pl.Float64).to_numpy()
    for candidate in model.candidates:
        fitted = fit_step._build(model, candidate).fit(X, y)
        before = LoadedModel.of(model, fitted).predict(rows)
        with saved(model, candidate.name, fitted, reference_rows(rows, model.features, 1)) as (path, _):
            assert load(path, model).predict(rows).tolist() == before.tolist()
