"""Routes: which people get a message, by its project, model, severity and owner. Pure.

`project.yaml` declares them (`notify`); a destination is the name of a connection. How a message is delivered there is
not said here: `include/io/channels` has that.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field

from include.core.base import Config, Record
from include.core.errors import nearest
from include.core.outbox import ALERTS, Message, key_of

Severity = Literal["critical", "high", "low"]

SEVERITIES: tuple[Severity, ...] = get_args(Severity)


def _known_severity(given: object) -> object:
    if given not in SEVERITIES:
        raise ValueError(f"there is no {given!r}{nearest(str(given), SEVERITIES)}")
    return given


def connection_name(name: str) -> str:
    """Refuse what cannot be the name of a connection."""
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,100}", name):
        raise ValueError(  # without the text: it may be an address, which is a secret
            "write the name of an Airflow connection; letters, digits, _, - and . are allowed. The address itself is "
            "the password of that connection"
        )
    return name


class Route(Config):
    """Who gets messages. A condition that is not declared fits every message."""

    to: Annotated[str, AfterValidator(connection_name)] = Field(
        description="Airflow connection with the address", examples=["oncall_pager"]
    )
    models: tuple[str, ...] = Field(
        default=(), description="only messages about these models", examples=[["parcels_sold"]]
    )
    severities: tuple[Annotated[Severity, BeforeValidator(_known_severity)], ...] = Field(
        default=(), description="only messages of these severities: critical, high, low", examples=[["critical"]]
    )
    owners: tuple[str, ...] = Field(
        default=(),
        description="only messages about a model of these owners, or about a project of theirs",
        examples=[["data-team"]],
    )

    def fits(self, model: str | None, severity: str, owner: str) -> bool:
        """Return whether a message goes this way; one that is about no model fits no route for models."""
        return (
            (not self.models or model in self.models)
            and (not self.severities or severity in self.severities)
            and (not self.owners or owner in self.owners)
        )


class Routing(Record):
    """The routes of a project, with the owners of its models.

    Attributes:
        project: its name; empty for messages about no project.
        owner: of the project.
        owners: of each model.
        routes: as `project.yaml` has them.
    """

    project: str = ""
    owner: str = ""
    owners: Mapping[str, str] = Field(default_factory=dict)
    routes: tuple[Route, ...] = ()

    def destinations(self, models: Iterable[str] = (), severity: Severity = "high", owner: str = "") -> tuple[str, ...]:
        """Return the connections that get a message: those of all routes that fit, `nightly_alerts` if none does.

        Args:
            models: that it is about or affects, each with its owner. Names that are no models of the project do not
                count.
            severity: of the message.
            owner: who has to act, if that is nobody of these; of the project by default, if there is no model.
        """
        about: list[tuple[str | None, str]] = [(model, self.owners[model]) for model in models if model in self.owners]
        if not about or (owner and owner not in {each for _, each in about}):
            about.append((None, owner or self.owner))
        found = [route.to for route in self.routes for model, of_it in about if route.fits(model, severity, of_it)]
        return tuple(dict.fromkeys(found)) or (ALERTS,)

    def messages(
        self, message: Message, models: Iterable[str] = (), severity: Severity = "high", owner: str = ""
    ) -> list[Message]:
        """Return the message once for each of its destinations, each with a key of its own.

        Args:
            message: as it goes to `nightly_alerts`.
            models: as for `destinations`.
            severity: as for `destinations`.
            owner: as for `destinations`.
        """
        models = tuple(models)
        named = [model for model in models if model in self.owners]
        model = named[0] if len(named) == 1 else None
        about = {
            "project": self.project or None,
            "model": model,
            "owner": owner or self.owners.get(model or "", self.owner) or None,
            "severity": severity,
        }
        labels = {name: value for name, value in about.items() if value is not None}
        return [
            message.model_copy(
                update={
                    "key": message.key if to == ALERTS else key_of(message.kind, message.key, to),
                    "destination": to,
                    "payload": {**message.payload, **labels},
                }
            )
            for to in self.destinations(models, severity, owner)
        ]


def misfits(routes: Sequence[Route], owner: str, owners: Mapping[str, str]) -> Iterator[str]:
    """Yield a sentence for each name in the routes of a project that does not exist.

    Args:
        routes: of the project.
        owner: of the project.
        owners: of each of its models.
    """
    for place, route in enumerate(routes):
        for key, named, known in (
            ("models", route.models, [*owners]),
            ("owners", route.owners, [*dict.fromkeys([owner, *owners.values()])]),
        ):
            for number, name in enumerate(named):
                if name not in known:
                    yield f"notify.{place}.{key}.{number}: there is no {name!r}{nearest(name, known)}"
