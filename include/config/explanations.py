"""The section `explanations` of `model.yaml`: whether each prediction has its reasons."""

from pydantic import Field

from include.core.base import Config


class Explanations(Config):
    """The strongest reasons of each prediction, in the view `prediction_reasons`."""

    top: int = Field(default=3, ge=1, le=20, description="how many reasons each prediction gets", examples=[3])
