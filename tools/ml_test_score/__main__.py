"""`make ml-test-score`: print the score with the reason of every half point that is missing."""

import os
import shutil
import textwrap
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa
import typer

from include.config.loading import load_model, model_names
from tools.ml_test_score.evidence import Sources, changed_at
from tools.ml_test_score.rubric import RUBRIC, SOURCE, Points, evaluate, meaning, section_scores

ROOT = Path(__file__).resolve().parents[2]


def printed(evaluated: list[Points], columns: int) -> str:
    """Return the score as text: a block for each section, a line for each test and for each reason."""
    lines = [_wrapped(SOURCE, columns, 0)]
    scores = section_scores(evaluated)
    for section, score in scores.items():
        lines += ["", f"{section}: {score:g} of {sum(each.test.section == section for each in evaluated)}"]
        for each in evaluated:
            if each.test.section == section:
                lines.append(f"  {each.points:3.1f}  {each.test.name}")
                if each.points < 1:
                    lines += [_wrapped(f"- {why}", columns) for why in each.why_not]
    lowest = min(scores.values())
    weakest = " and ".join(section for section, score in scores.items() if score == lowest)
    lines += [
        "",
        _wrapped(f"ML Test Score: {lowest:g} (the weakest section: {weakest}): {meaning(lowest)}", columns, 0),
    ]
    return "\n".join(lines)


def _wrapped(text: str, columns: int, indent: int = 7) -> str:
    return textwrap.fill(
        text,
        columns,
        initial_indent=" " * indent,
        subsequent_indent=" " * (indent + 2),
        break_on_hyphens=False,
        break_long_words=False,  # the name of a test is copied
    )


def counter(url: str | None) -> Callable[[str], int] | None:
    """Return a function that runs a query which counts; None if there is no database that answers."""
    if not url:
        return None
    engine = sa.create_engine(sa.make_url(url).set(drivername="postgresql+psycopg2"), poolclass=sa.NullPool)

    def count(query: str) -> int:
        with engine.connect() as connection:
            return int(connection.execute(sa.text(query)).scalar_one())

    try:
        count("SELECT 1")
    except sa.exc.OperationalError:
        return None
    return count


def main() -> None:
    """Print the score."""
    found = Sources(
        root=ROOT,
        now=datetime.now(UTC),
        count=counter(os.environ.get("OPS_READER_URL")),
        changed_at=changed_at,
        models=[load_model(name) for name in model_names()],
    )
    typer.echo(printed([evaluate(test, found) for test in RUBRIC], min(shutil.get_terminal_size().columns, 120)))


if __name__ == "__main__":
    main()
