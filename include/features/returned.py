"""What a project's `build` must return: its key, and features of a known type, none of them lost. Pure."""

import ast
import re
from collections import Counter
from collections.abc import Collection, Iterator

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import BooleanType, DataType, DateType, IntegerType, NumericType, StringType

from include.core.errors import ConfigError
from include.core.feeds import HORIZON, TARGET_DAY

KEY: dict[str, DataType] = {"day": DateType(), HORIZON: IntegerType(), "entity_id": StringType()}

FILLED = "\0"

MIN_LETTERS = 3
"""An f-string with fewer letters of its own, such as f"{name}_{n}", would seem to name every column."""


def typed(frame: DataFrame, *, horizons: bool = False) -> DataFrame:
    """Return day, entity_id, labels (string) and numbers (double; booleans are 1 and 0), each sorted by name.

    Args:
        frame: what `build` returned.
        horizons: whether the feed of the entities has `ahead_days`. Then `horizon` is part of the key, and `target_day`
            follows from it, so it is dropped.

    Raises:
        ConfigError: names the columns that are missing, come twice or have no known type.
    """
    if not horizons and HORIZON in frame.columns:
        raise ConfigError(
            f"the column {HORIZON} is the days from the run date to the day of an entity, and the feed of the entities "
            "has no ahead_days; rename the column"
        )
    of_key = KEY if horizons else {name: kind for name, kind in KEY.items() if name != HORIZON}
    frame = frame.drop(TARGET_DAY) if horizons else frame
    kinds = [(field.name, field.dataType) for field in frame.schema]
    names = Counter(name.lower() for name, _ in kinds)
    problems = [f"the column {name} is missing" for name in of_key if name not in names]
    problems += [f"the column {name} comes {count} times" for name, count in names.items() if count > 1]
    problems += [
        f"the column {name} is {kind.simpleString()}, not {of_key[name].simpleString()}"
        for name, kind in kinds
        if name in of_key and kind != of_key[name]
    ]
    features = sorted((name, kind) for name, kind in kinds if name not in of_key)
    problems += [
        f"the column {name} is {kind.simpleString()}, which is no type of a feature; make a number, boolean or string "
        "of it, or drop it"
        for name, kind in features
        if not isinstance(kind, StringType | BooleanType | NumericType)
    ]
    if problems:
        raise ConfigError("; ".join(problems))
    labels = [name for name, kind in features if isinstance(kind, StringType)]
    return frame.select(
        *of_key, *labels, *(_number(name) for name, kind in features if not isinstance(kind, StringType))
    )


def require_all(frame: DataFrame, source: str, made: Collection[str]) -> None:
    """Refuse a frame that lacks a column which the code makes and uses nowhere else.

    Args:
        frame: what `build` returned.
        source: the text of `features.py`.
        made: the columns that windows and lags made.

    Raises:
        ConfigError: names the columns.
    """
    tree = ast.parse(source)
    texts = [*_texts(tree)]
    named = [*_named(tree)]
    lost = {name for name in named if name not in frame.columns and sum(_mentions(text, name) for text in texts) < 2}
    lost |= {name for name in made if name not in frame.columns and not any(_mentions(text, name) for text in texts)}
    if lost:
        raise ConfigError(f"build makes {', '.join(sorted(lost))} and does not return it; return it, or do not make it")


def _named(tree: ast.AST) -> Iterator[str]:
    """Yield the names that the code gives to new columns."""
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
            continue
        first, second = [*call.args, None, None][:2]
        match call.func.attr:
            case "withColumn" | "alias":
                names = [first]
            case "withColumnRenamed":
                names = [second]
            case "withColumns" if isinstance(first, ast.Dict):
                names = [*first.keys]
            case _:
                names = []
        yield from (name.value for name in names if isinstance(name, ast.Constant) and isinstance(name.value, str))


def _texts(tree: ast.AST) -> Iterator[str]:
    """Yield the texts and attributes by which code can name a column; an f-string has FILLED for what it fills in."""
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if id(node) in docs | inside:
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.JoinedStr):
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else FILLED for part in node.values)
            if len(re.findall(r"\w", text.replace(FILLED, ""))) >= MIN_LETTERS:
                yield text


def _mentions(text: str, name: str) -> bool:
    """Return whether a text names a column, by itself or within SQL."""
    if FILLED in text:
        return re.fullmatch(r"\w*".join(map(re.escape, text.split(FILLED))), name) is not None
    return re.search(rf"\b{re.escape(name)}\b", text) is not None


def _number(name: str) -> Column:
    return F.col(name).cast("double").alias(name)
