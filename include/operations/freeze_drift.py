"""freeze-drift: let the newest champion's training data be what drift is counted by, after an accepted change."""

from include.config.model import Model
from include.core.errors import ActionRequiredError
from include.core.settings import Settings
from include.io import postgres


def freeze_drift(model: Model, settings: Settings, *, by: str, why: str) -> str:
    """Record the decision; return what happens. The next `monitor` freezes the edges and summarises the days again."""
    if not (by.strip() and why.strip()):
        raise ActionRequiredError("freeze-drift needs who decides and why: --by NAME --why REASON")
    number = postgres.drift.decide_freeze(settings, model.name, by=by, why=why)
    return (
        f"{model.name}: decision {number} is recorded. The next run of {model.project}_monitor freezes the edges from "
        "the training data of the newest champion, and summarises the days before by them."
    )
