"""Routes: which people get a message, by its project, model, severity and owner. Pure.

`project.yaml` declares them (`notify`); a destination is the name of a connection. How a message is delivered there is
not said here: `include/io/channels` has that.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field

from include.core.base import Config, Record
from include.core.errors import nearest
from include.core.outbox import ALERTS, Message, key_of

Severity = Literal["critical", "high", "low"]

SEVERITIES: tuple[str, ...] = get_args(Severity)


def _known_severity(given: object) -> object:
    if given not in SEVERITIES:
        raise ValueError(f"there is no {given!r}{nearest(str(given), SEVERITIES)}")
    return given


def _connection(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,100}", name):
        raise ValueError(  # without the text: it may be an address, which is a secret
            "write the name of an Airflow connection; letters, digits, _, - and . are allowed. The address itself is "
            "the password of that connection"
        )
    return name


class Route(Config):
    """Who gets messages. A condition that is not declared fits every message."""

    to: Annotated[str, AfterValidator(_connection)] = Field(
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

    def destinations(self, subject: str | None = None, severity: Severity = "high") -> tuple[str, ...]:
        """Return the connections that get a message: those of all routes that fit, `nightly_alerts` if none does.

        Args:
            subject: what the message is about. If it is a model of the project, the model's owner counts.
            severity: of the message.
        """
        model = subject if subject in self.owners else None
        owner = self.owners.get(subject or "", self.owner)
        found = [route.to for route in self.routes if route.fits(model, severity, owner)]
        return tuple(dict.fromkeys(found)) or (ALERTS,)

    def messages(self, message: Message, subject: str | None = None, severity: Severity = "high") -> list[Message]:
        """Return the message once for each of its destinations, each with a key of its own.

        Args:
            message: as it goes to `nightly_alerts`.
            subject: as for `destinations`.
            severity: as for `destinations`.
        """
        found = self.destinations(subject, severity)
        return [self.addressed(message, destination, subject, severity) for destination in found]

    def addressed(
        self, message: Message, destination: str, subject: str | None = None, severity: Severity = "high"
    ) -> Message:
        """Return the message for one of its destinations, with what it is about in its payload."""
        about = {
            "project": self.project or None,
            "model": subject if subject in self.owners else None,
            "owner": self.owners.get(subject or "", self.owner) or None,
            "severity": severity,
        }
        labels = {name: value for name, value in about.items() if value is not None}
        key = message.key if destination == ALERTS else key_of(message.kind, message.key, destination)
        return message.model_copy(
            update={"key": key, "destination": destination, "payload": {**message.payload, **labels}}
        )


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
