"""MLflow: the runs of fits with everything they came from, and the versions of models.

Only this package imports MLflow. It finds existing fits and versions again, so that there is one version even if a step
is killed and restarted, or two steps run at once. `include/steps` decides what is fitted, measured and promoted. Only
the URIs of `Settings` decide which MLflow is used, never the environment, and only what a step passes is logged (no
autolog).

- `client`: the connection to MLflow: URIs, environment variables, the lock around them, downloads.
- `datasets`: the tables that a fit read, as MLflow inputs.
- `runs`: the fits.
- `searches`: the trials of searches, below runs of their own.
- `versions`: the versions of registered models, their aliases and gate decisions.
- `models`: the files of fits and versions: written, compared with the digest of the fit, loaded, ready to predict.
- `scorer`: the kernel of `score`, which runs in the worker or on executors of Spark.
- `adopted`: models that were fitted elsewhere, which are read, and loaded with great care. `unpickle` is a process of
  its own for those that are pickles.

**Once, without a lock.** A step on Databricks reaches only tables and MLflow, so there is no lock to take.

- A *run* may exist twice, which does no harm. It is written completely and marked FINISHED last; the fit of a digest
  is the recorded run that finished first. A run that the shared database does not know is never taken for it: whoever
  writes to MLflow could have made it. The next step that finishes marks the runs of killed steps as KILLED.
- A *version* must not exist twice. Version numbers grow, are never reused, and a version is visible as soon as it has
  its number. So `register` looks for a version of the digest, creates one, and looks again. The lowest number stays;
  every step that sees a higher one of the same digest deletes it. Only then does it tag the version as evaluated, and
  `promote` refuses versions without that tag: a version that may still be deleted never becomes champion. (Unity
  Catalog shows a version before it is READY, so two steps at once may both keep theirs. Later steps then find the one
  that was tagged first, and a tagged version is never deleted.)
"""

import os
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from typing import Any

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # MLflow reads both when it is imported
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

from include.config.model import Model
from include.core.records import GateDecision
from include.core.settings import Settings
from include.io.registry import adopted, models, runs, searches, versions
from include.io.registry.adopted import ForeignModel
from include.io.registry.client import MlflowConnection
from include.io.registry.datasets import DeltaPart, FitInput
from include.io.registry.models import (
    SAME_SCORES,
    LoadedModel,
    LoggedModel,
    ModelFiles,
    VerifiedModel,
    reference_rows,
)
from include.io.registry.runs import SEARCH_BEST, Fit, FitRun
from include.io.registry.scorer import Scorer, score_rows
from include.io.registry.searches import SearchRun
from include.io.registry.versions import CHAMPION, EVALUATED, Version
from include.training.search import Searched, Trial

__all__ = [
    "CHAMPION",
    "EVALUATED",
    "SAME_SCORES",
    "SEARCH_BEST",
    "DeltaPart",
    "Fit",
    "FitInput",
    "FitRun",
    "ForeignModel",
    "LoadedModel",
    "ModelFiles",
    "Registry",
    "Scorer",
    "SearchRun",
    "VerifiedModel",
    "Version",
    "reference_rows",
    "score_rows",
]


class Registry:
    """MLflow's tracking and registry at the URIs of the settings.

    Look up versions and fits once, with `get_version` and `get_fit`, and pass the records on.
    """

    def __init__(self, settings: Settings) -> None:
        self.connection = MlflowConnection(settings)

    def prepare(self) -> None:
        """Create MLflow's tables in an empty database; two clients at once would both try to create them."""
        self.connection.prepare()

    def find_fit(self, model: Model, digest: str, recorded: Collection[str] | None = None) -> FitRun | None:
        """Return the recorded run of this digest that finished first, None when none has finished."""
        return runs.find_fit(self.connection, model, digest, recorded)

    def get_fit(self, run_id: str, tags_digest: str | None = None) -> FitRun:
        """Return a finished fit by the id of its run, if it says what was recorded of it."""
        return runs.get_fit(self.connection, run_id, tags_digest)

    def log_fit(self, fit: Fit) -> FitRun:
        """Log a fit and return it."""
        return runs.log_fit(self.connection, fit)

    def open_search(self, model: Model, digest: str, tags: Mapping[str, Any]) -> SearchRun:
        """Return the search of a fit with the trials that are there; begin it if there is none."""
        return searches.open_search(self.connection, model, digest, tags)

    def log_trial(self, search: SearchRun, trial: Trial) -> None:
        """Store a trial of a search."""
        searches.log_trial(self.connection, search, trial)

    def close_search(self, search: SearchRun, searched: Searched) -> None:
        """Say what a search found."""
        searches.close_search(self.connection, search, searched)

    def register(
        self, model: Model, fit: FitRun, tags: Mapping[str, Any], taken: Mapping[int, str] | None = None
    ) -> Version:
        """Return the version of a fit's logged model, tagged as evaluated; create it, with no number of another run."""
        return versions.register(self.connection, model, fit, tags, taken or {})

    def get_version(self, model: str, version: int) -> Version:
        """Return a version; raise `ActionRequiredError`, naming the newest ones, when there is no such version."""
        return versions.get_version(self.connection, model, version)

    def load(self, source: FitRun | Version, digest: str, model: Model) -> LoadedModel:
        """Load the model that a fit logged, or a version of a registered model; see `models.open_verified`.

        Args:
            source: which model.
            digest: of its files, as the shared database recorded it at the fit.
            model: its `model.yaml`, which says how the model is saved.
        """
        return models.open_verified(self.connection, self._logged(source, model), digest, model.readable)

    def verified(self, version: Version, digest: str, model: Model) -> VerifiedModel:
        """Return the files of a version, for another process to load; arguments and errors are those of `load`."""
        return models.verified(self.connection, self._logged(version, model), digest, model.readable)

    def files(self, version: Version, digest: str) -> ModelFiles:
        """Return digest and size of the files of a version; refuse others than those of the digest, as `load` does."""
        return models.verified_files(self.connection, versions.logged_model(self.connection, version), digest)

    def foreign_model(self, source: str) -> AbstractContextManager[ForeignModel]:
        """Yield a model that was fitted elsewhere, by its `runs:/…` or `models:/…` or its folder; nothing is loaded."""
        return adopted.foreign_model(self.connection, source)

    def _logged(self, source: FitRun | Version, model: Model) -> LoggedModel:
        if isinstance(source, Version):
            return versions.logged_model(self.connection, source)
        return LoggedModel.of_fit(model.name, source.run_id, source.model_id)

    def aliased(self, model: str, alias: str = CHAMPION) -> int | None:
        """Return the version that an alias points to, None when it points to none."""
        return versions.aliased(self.connection, model, alias)

    def point(self, model: str, version: int, alias: str = CHAMPION) -> None:
        """Make an alias point to a version."""
        versions.point(self.connection, model, version, alias)

    def tag(self, version: Version, name: str, value: str) -> None:
        """Tag a version, for people: nothing reads the tag back."""
        versions.tag(self.connection, version, name, value)

    def record_gate(self, version: Version, decision: GateDecision) -> None:
        """Record a decision as tags of the version and its run, and the checks as a table of the run."""
        versions.record_gate(self.connection, version, decision)

    def record_report(self, version: Version, gate_id: str, page: str, facts: Mapping[str, Any]) -> tuple[str, str]:
        """Add a training report to the run of a version; return the id of its experiment and the path of the page."""
        return versions.record_report(self.connection, version, gate_id, page, facts)

    def print_report(self, version: Version, make_pdf: Callable[[str], bytes]) -> str | None:
        """Add the newest training report of a version as PDF beside its page; return its path, None without one."""
        return versions.print_report(self.connection, version, make_pdf)

    def read_facts(self, version: Version) -> dict[str, Any] | None:
        """Return the facts of the newest training report of a version, None if it has none."""
        return versions.read_facts(self.connection, version)
