"""Base classes of frozen records: `Config` for what YAML declares, `Record` for what travels between steps."""

import difflib
from datetime import time
from typing import Annotated, Any
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from include.core.printable import printable

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*(_[a-z0-9]+)*$", max_length=40)]
"""A name that becomes part of table, DAG and view names."""


def _refuse_number(written: Any) -> Any:
    if isinstance(written, int | float):  # pydantic would count it as seconds after midnight
        raise ValueError("write the time as hours and minutes, 10:30")
    return written


LocalTime = Annotated[time, BeforeValidator(_refuse_number)]
"""A time of day in the project's timezone."""


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:  # pydantic reports only a ValueError to the user
        close = difflib.get_close_matches(name, available_timezones(), n=1)
        meant = f"did you mean {close[0]!r}?" if close else "write it as 'America/New_York'"
        raise ValueError(f"no timezone {name!r}; {meant}") from error
    return name


Zone = Annotated[str, AfterValidator(_zone)]
"""The name of a timezone."""


Sentence = Annotated[str, AfterValidator(printable)]
"""A text for people, in one line. It may contain text from outside, such as the name of an object."""


class Config(BaseModel):
    """A frozen declaration. Unknown keys are refused; so are NaN and infinity, which would let any version pass."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Record(BaseModel):
    """A frozen record. An unknown key is refused, so that two versions of the code cannot misread each other."""

    model_config = ConfigDict(frozen=True, extra="forbid")
