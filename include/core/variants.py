"""Variants: entries of a list in YAML of which `kind` says the class, and the defaults of those that are not listed."""

from collections.abc import Iterable, Sequence
from typing import Any, Self, TypeVar, get_args

from pydantic import ConfigDict

from include.core.base import Config


def _require_kind(schema: dict[str, Any]) -> None:
    """Mark `kind` as required in the JSON Schema: its default is for code, not for YAML."""
    schema["required"] = ["kind", *schema.get("required", [])]
    schema["properties"]["kind"].pop("default", None)


class Variant(Config):
    """One entry of a list in which `kind` says the class; a subclass declares it as a `Literal` with a default."""

    model_config = ConfigDict(json_schema_extra=_require_kind)

    kind: str

    @property
    def name(self) -> str:
        """The kind in the words of people."""
        return self.kind.replace("_", " ")

    @property
    def subject(self) -> str:
        """What tells entries of one kind apart. A kind without subjects can be listed once only."""
        return ""

    @classmethod
    def defaults(cls, problem_type: str) -> Sequence[Self]:
        """Return the entries of this kind for a model whose YAML lists none.

        Raises:
            ValueError: a setting has no safe default, so the YAML must list this kind.
        """
        cls.require_listing(*(name for name, field in cls.model_fields.items() if field.is_required()))
        return (cls(kind=cls.model_fields["kind"].default),)

    @classmethod
    def require_listing(cls, *settings: str) -> None:
        """Raise ValueError when there are settings without a safe default."""
        if settings:
            kind = cls.model_fields["kind"].default
            keys = "".join(f", {name}: …" for name in settings)
            raise ValueError(f"{kind} has no safe default; list {{kind: {kind}{keys}}}")


V = TypeVar("V", bound=Variant)


def kinds_in(annotation: Any) -> dict[str, type[Variant]]:
    """Return kind → class of each variant in a type such as `tuple[Annotated[A | B, …], ...]`, in its order."""
    if isinstance(annotation, type) and issubclass(annotation, Variant):
        return {annotation.model_fields["kind"].default: annotation}
    return {kind: found for part in get_args(annotation) for kind, found in kinds_in(part).items()}


def with_defaults(annotation: Any, listed: Sequence[V], problem_type: str) -> tuple[V, ...]:
    """Return the listed entries and the defaults of every other kind, in the order of the kinds.

    Args:
        annotation: the type of the list.
        listed: the entries that the YAML has.
        problem_type: of the model.

    Raises:
        ValueError: kinds have no safe default and are not listed; a line for each.
    """
    complete: list[Any] = []
    problems = []
    for kind, variant in kinds_in(annotation).items():
        try:
            complete += [each for each in listed if each.kind == kind] or variant.defaults(problem_type)
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise ValueError("\n".join(problems))
    return tuple(complete)


def require_once(listed: Iterable[Variant]) -> None:
    """Raise ValueError when two entries have the same kind and subject."""
    seen: set[tuple[str, str]] = set()
    for each in listed:
        if (each.kind, each.subject) in seen:
            raise ValueError(f"{each.kind}{f' of {each.subject}' if each.subject else ''} is listed twice")
        seen.add((each.kind, each.subject))
