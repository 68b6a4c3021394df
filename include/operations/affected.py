"""What a DAG is for: whom it affects if one of its tasks fails, found by its name. Every DAG file loads this module."""

from dataclasses import dataclass

from include.config.loading import load_model, load_project, model_names, project_names
from include.core.incidents import Tier

OF_PROJECTS = ("prepare", "monitor", "backfill_range", "simulate")
OF_MODELS = ("train", "approve", "decide", "score", "rollback")
OF_THE_BUNDLE = ("maintenance", "outbox", "incidents")
DONE_BY = {"prepare": "build_features", "score": "publish", "train": "gate", "monitor": "monitor"}
"""The step whose success shows that a task is made good that is no step itself, such as one that waits."""


AFTER_PUBLISH = ("public_page",)
"""Tasks of DAGs that score which run when the scores are published, for the whole project."""


@dataclass(frozen=True)
class Affected:
    """What a DAG is for.

    Attributes:
        project: its project; empty for another DAG.
        kind: prepare, score and so on.
        model: its model; None for a DAG of a project.
        models: the models that it works for.
        tier: the highest of their tiers.
        owner: who owns it.
    """

    project: str = ""
    kind: str = ""
    model: str | None = None
    models: tuple[str, ...] = ()
    tier: Tier = 2
    owner: str = ""

    def effect(self, day: str, task_id: str = "") -> str:
        """Return what readers see if a task, or its run, failed; empty if their scores are as always."""
        if task_id in AFTER_PUBLISH:
            return ""
        if self.kind in ("prepare", "score"):
            return f"no scores of {day or 'the day'} from {', '.join(self.models)}; those of the day before stay"
        if self.kind == "outbox":
            return "messages about incidents are not sent"
        if self.kind == "rollback":
            return f"{self.model}: the version that was to be rolled back is still read"
        return "" if self.kind else "nothing is known about this DAG"

    def model_of(self, task_id: str) -> str | None:
        """Return the model of a task, as its step is recorded with; None if it is about the project."""
        return None if task_id in AFTER_PUBLISH else self.model

    def done_by(self, task_id: str) -> str | None:
        """Return the step whose success for the run date shows that a task was made good."""
        from include.steps.declared import STEPS

        return task_id if task_id in STEPS else DONE_BY.get(self.kind)


def find_affected(dag_id: str) -> Affected:
    """Return what a DAG is for, by its name."""
    for name in project_names():
        kind = dag_id.removeprefix(f"{name}_")
        if dag_id != kind and kind in OF_PROJECTS:
            project, models = load_project(name), [load_model(each) for each in model_names(name)]
            tier: Tier = min((model.tier for model in models), default=2)
            return Affected(name, kind, None, tuple(model.name for model in models), tier, project.owner)
    for name in model_names():
        kind = dag_id.removeprefix(f"{name}_")
        if dag_id != kind and kind in OF_MODELS:
            model = load_model(name)
            return Affected(model.project, kind, name, (name,), model.tier, model.owner)
    return Affected(kind=dag_id) if dag_id in OF_THE_BUNDLE else Affected()
