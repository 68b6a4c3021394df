"""What a plan knows of the product's code."""

from pathlib import Path

import pytest

from include.core.changes import PRODUCT, Effect
from include.gate.rules import COMMON
from include.operations.plan import PRODUCT_CODE


@pytest.mark.parametrize("code", COMMON, ids=str)
def test_a_plan_names_the_gate_for_each_file_that_is_in_the_digest_of_its_rules(code: object) -> None:
    """Otherwise it says that nothing changes, and all versions that wait go through the gate again."""
    file = code if isinstance(code, Path) else Path(str(getattr(code, "__file__", "")))
    of_gate = [pattern for _, patterns, effect in PRODUCT_CODE if effect is Effect.GATE for pattern in patterns]
    assert any(file.resolve() in map(Path.resolve, PRODUCT.glob(pattern)) for pattern in of_gate), file
