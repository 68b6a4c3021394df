"""Find the declared columns among those of a file."""

from collections import Counter
from collections.abc import Iterable, Sequence

from include.core.errors import UnreadableError
from include.core.formats.base import Layout, listed

AGAIN = "deliver the file with the declared columns"


def places(
    found: Sequence[str], layout: Layout, *, line: int | None = None, shown: bool = False, what: str = "column"
) -> list[int | None]:
    """Return where each declared column is in a file; None is an optional column that the file leaves out.

    Args:
        found: the names of the file's columns.
        layout: what is declared.
        line: of the names.
        shown: whether messages may name undeclared columns. Without it they name positions, because a file without a
            header has personal data in its first line.
        what: the names name: columns or keys.

    Raises:
        UnreadableError: a declared column is missing, or a name is undeclared, empty, there twice or in another case.
    """
    if len(found) > layout.max_columns:
        raise too_many(layout, line)
    at = {name: place for place, name in reversed([*enumerate(found)])}
    unknown = _undeclared(found, layout)
    missing = [name for name in layout.names if name not in at and name not in layout.optional]

    changed = "header" if what == "column" else f"{what}s"

    def column(place: int, *, named: bool = shown) -> str:
        return f"{what} {place + 1}" + (f" ({found[place]})" if named else "")

    lower = {name.lower(): name for name in layout.names}
    cases = [(place, lower[found[place].strip().lower()]) for place in unknown if found[place].strip().lower() in lower]
    if cases:
        pairs = listed(
            f"{column(place, named=False)} is {found[place].strip()}"
            + " with spaces around" * (found[place] != found[place].strip())
            + f", declared is {name}"
            for place, name in cases
        )
        raise UnreadableError(f"the {changed} changed: {pairs}; {AGAIN}", line=line)
    problems = []
    if missing:
        problems.append(f"missing {listed(missing)}")
    if unknown and (missing or layout.extra_columns == "refuse"):
        problems.append(f"not declared: {what} {_numbered(found, unknown, shown=shown)}")
    if problems:
        raise UnreadableError(
            f"the {changed} changed: {'; '.join(problems)}; {AGAIN}{_or_declare(missing, unknown)}", line=line
        )
    if empty := [place + 1 for place, name in enumerate(found) if not name.strip()]:
        raise UnreadableError(f"column {listed(empty)} of {len(found)} has no name; {AGAIN}", line=line)
    counts = Counter(name.lower() for name in found)
    if twice := next((name for name, count in counts.items() if count > 1), None):
        same = [place for place, name in enumerate(found) if name.lower() == twice]
        differ = "differ by upper and lower case only" if len({found[place] for place in same}) > 1 else "have one name"
        named = twice if twice in lower else ""
        raise UnreadableError(
            f"{' and '.join(map(column, same[:2]))} {differ}{f': {lower[named]}' if named else ''}; {AGAIN}", line=line
        )
    return [at.get(name) for name in layout.names]


def remark(found: Sequence[str], layout: Layout, *, shown: bool = False) -> str | None:
    """Return the warning about undeclared columns, if the feed asks for one."""
    unknown = _undeclared(found, layout)
    if not unknown or layout.extra_columns != "warn":
        return None
    return f"ignored, because it is not declared: column {_numbered(found, unknown, shown=shown)}"


def differs(found: Iterable[str], layout: Layout) -> tuple[str, ...]:
    """Return how the columns of a readable file differ from the declared ones, sorted.

    Undeclared ones are counted, because their names may be values of a file without a header.
    """
    there = set(found)
    lacks = sorted(f"without {name}" for name in layout.names if name in layout.optional and name not in there)
    more = len(there - set(layout.names))
    return (*lacks, *([f"{more} undeclared"] if more else []))


def _undeclared(found: Sequence[str], layout: Layout) -> list[int]:
    return [place for place, name in enumerate(found) if name not in layout.names]


def _numbered(found: Sequence[str], places: Sequence[int], *, shown: bool) -> str:
    """Return the numbers of columns, counted from 1, with their names if these may be shown."""
    return listed(f"{place + 1} ({found[place]})" if shown else place + 1 for place in places)


def too_many(layout: Layout, line: int | None) -> UnreadableError:
    """Return the error of a file with more columns than the limit."""
    return UnreadableError(
        f"more than {layout.max_columns:,} columns, the limit; deliver the declared columns, or, if they are right, "
        f"declare limits: {{columns: {layout.max_columns * 10}}}",
        line=line,
    )


def _or_declare(missing: Sequence[str], unknown: Sequence[int]) -> str:
    ways = []
    if unknown:
        ways.append("declare the new ones in project.yaml" + ("" if missing else ", or extra_columns: ignore"))
    if missing and not unknown:
        ways.append(f"declare {missing[0]} with optional: true")
    return f", or {' and '.join(ways)}" if ways else ""
