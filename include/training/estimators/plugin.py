"""Estimators of other packages, found by the Python entry point `nightly_ml.estimators`."""

from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from include.core.errors import nearest
from include.training.estimators.base import Estimator
from include.training.problem_types import ProblemType
from include.training.transforms import Context

GROUP = "nightly_ml.estimators"


class Plugin(Estimator):
    """An estimator of another package. Its class is an `Estimator`, as those of the product are."""

    kind: Literal["plugin"] = Field(
        default="plugin", description="an estimator of another package, by the entry point `nightly_ml.estimators`"
    )
    plugin: str = Field(description="the name of the entry point", examples=["catboost"])
    settings: dict[str, Any] = Field(
        default_factory=dict, description="the settings of its class", examples=[{"depth": 6}]
    )

    @model_validator(mode="after")
    def _known(self) -> Self:
        try:
            _ = self.own
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(["settings", *map(str, first["loc"])])
            raise ValueError(f"{self.plugin}: {key}: {first['msg'].removeprefix('Value error, ')}") from error
        return self

    @property
    def entry_point(self) -> EntryPoint:
        """The entry point that the package has."""
        found = {each.name: each for each in entry_points(group=GROUP)}
        if self.plugin not in found:
            raise ValueError(
                f"no installed package has an entry point {self.plugin!r} in {GROUP}{nearest(self.plugin, found)}"
            )
        return found[self.plugin]

    @property
    def own(self) -> Estimator:
        """The estimator that the package declares, with the settings of `model.yaml`."""
        kind = self.entry_point.load()
        if not (isinstance(kind, type) and issubclass(kind, Estimator)):
            raise ValueError(f"{self.plugin} is {kind!r}, and not a subclass of include.training.estimators.Estimator")
        return kind.model_validate(self.settings)

    @property
    def version(self) -> str:
        """Name and version of the package, which decide a fit too."""
        package = self.entry_point.dist
        return f"{package.name} {package.version}" if package else "unknown"

    def require_fit(self, problem_type: str) -> None:
        """Ask the estimator of the package."""
        self.own.require_fit(problem_type)

    def preparation(self, context: Context) -> list[tuple[str, Any]]:
        """Return those of the estimator of the package."""
        return self.own.preparation(context)

    def predictor(self, context: Context, quantile: float | None) -> Any:
        """Return that of the package."""
        return self.own.predictor(context, quantile)

    def steps(self, context: Context, problem: ProblemType) -> list[tuple[str, Any]]:
        """Return those of the estimator of the package."""
        return self.own.steps(context, problem)
