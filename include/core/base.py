"""Base classes of frozen records: `Config` for what YAML declares, `Record` for what travels between steps."""

from datetime import time
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)]
"""A name that becomes part of table, DAG and view names."""


def _refuse_number(written: Any) -> Any:
    if isinstance(written, int | float):  # pydantic would count it as seconds after midnight
        raise ValueError("write the time as hours and minutes, 10:30")
    return written


LocalTime = Annotated[time, BeforeValidator(_refuse_number)]
"""A time of day in the project's timezone."""


class Config(BaseModel):
    """A frozen declaration. Unknown keys are refused; so are NaN and infinity, which would let any version pass."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Record(BaseModel):
    """A frozen record. An unknown key is refused, so that two versions of the code cannot misread each other."""

    model_config = ConfigDict(frozen=True, extra="forbid")
