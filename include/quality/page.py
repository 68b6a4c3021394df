"""Make the page about a validation: one HTML file, complete in itself, in which no text is markup. Pure.

`nightly_pages` has its frame and its look, which it shares with the other pages of the product.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.core.printable import printable
from include.quality.examples import sentence
from nightly_pages import page

if TYPE_CHECKING:
    from include.quality.suites import Finding

FOLDER = Path(__file__).parent
MAX_VALUES = 20
"""Values of a list in a rule that the page shows."""
FOLLOWS = ("refuses the file", "quarantines rows", "recorded only")
"""What follows from a broken rule, in the order of the page."""
NOT_ARGUMENTS = {"column", "column_A", "column_B", "column_list", "batch_id", "severity"}


@dataclass(frozen=True)
class Validation:
    """A delivery and its verdict, for the page.

    Attributes:
        uri: where the file is.
        why: why it is refused; None if it is not.
        rows: rows of the delivery.
        quarantined: rows that went to quarantine.
        run_id: the run that validated it.
    """

    project: str
    feed: str
    day: date
    uri: str
    delivery_id: str
    why: str | None
    rows: int
    quarantined: int
    run_id: str

    @property
    def verdict(self) -> str:
        """The verdict in a word or two."""
        if self.why is not None:
            return "refused"
        return f"accepted, {self.quarantined} of {self.rows} rows quarantined" if self.quarantined else "accepted"


def render(validation: Validation, findings: Sequence["Finding"], results: Sequence[Mapping[str, Any]]) -> str:
    """Return the page.

    Args:
        validation: the delivery and its verdict.
        findings: what each expectation found.
        results: for each finding, what `quality_results` has of it: its `examples` are without personal data.
    """
    rules = [_rule(finding, result) for finding, result in zip(findings, results, strict=True)]
    values = {
        "about": validation,
        "broken": sorted((rule for rule in rules if not rule["met"]), key=lambda rule: FOLLOWS.index(rule["follows"])),
        "met": [rule for rule in rules if rule["met"]],
    }
    return page.render(FOLDER / "page.html.j2", values, visible=printable)


def _rule(finding: "Finding", result: Mapping[str, Any]) -> dict[str, Any]:
    rows = None if finding.rows is None else f"{finding.unexpected_rows} of {finding.rows} rows"
    follows = FOLLOWS[0 if finding.refuses else 1 if finding.quarantines else 2]
    return {
        "met": finding.success,
        "name": "malformed values" if finding.columns == ("_malformed",) else finding.expectation,
        "columns": [name for name in finding.columns if name != "_malformed"],
        "arguments": list(_arguments(finding)),
        "severity": finding.severity,
        "found": "; ".join(part for part in (rows, finding.observed) if part),
        "follows": follows,
        "examples": [sentence([example]) for example in result["examples"]],
    }


def _arguments(finding: "Finding") -> Iterator[str]:
    """Yield the arguments of an expectation, as `expectations.yaml` has them, and what its author noted."""
    given = {key: value for key, value in finding.config.kwargs.items() if key not in NOT_ARGUMENTS}
    for key, value in (given | {"description": finding.config.description, "notes": finding.config.notes}).items():
        if value is None or value is False:
            continue
        values = [*value] if isinstance(value, list | tuple | set) else [value]
        more = [f"… and {len(values) - MAX_VALUES} more"] if len(values) > MAX_VALUES else []
        yield f"{key}: {', '.join(map(str, [*values[:MAX_VALUES], *more]))}"
