"""The model card: the figures stand between markers, and a card of another declaration is out of date."""

from pathlib import Path
from typing import Any

import pytest

from include.config.loading import load_model
from include.training.config import Candidate
from tools.model_card import BEGIN, END, card, declared, out_of_date, replaced

FACTS: dict[str, Any] = {
    "version": 3,
    "candidate": "boosted",
    "day": "2013-03-22",
    "fit": ["2013-03-03", "2013-03-13"],
    "holdout": ["2013-03-17", "2013-03-21"],
    "rows": 600,
    "passed": True,
    "checks": 9,
    "metrics": {"log_loss": {"value": 0.5, "low": 0.4, "high": 0.6}},
    "dummy": {"log_loss": 0.7},
    "cost": None,
    "importances": [{"name": "leaving_hour", "mean": 0.1}, {"name": "noise", "mean": -0.1}],
    "slices": [
        {"column": "origin", "value": "BAT|<b>", "loss": 0.9, "dummy": 0.6, "checked": True},
        {"column": "origin", "value": "PAU", "loss": 0.3, "dummy": 0.6, "checked": True},
    ],
}


def test_the_hand_written_part_stays_and_the_figures_are_replaced() -> None:
    model = load_model("late_ferry")
    once = replaced("# mine\n\ntext\n", card(model, FACTS))
    assert once.startswith("# mine\n\ntext\n\n<!--")
    assert "| log_loss | 0.5 (0.4 to 0.6) | 0.7 |" in once
    assert "Strongest inputs: leaving_hour.\n" in once
    assert r"worst slices first: origin BAT\|&lt;b> +50.0%, origin PAU -50.0%." in once
    again = replaced(f"{once}more\n", card(model, {**FACTS, "version": 4}))
    assert again == f"{once}more\n".replace("Version 3", "Version 4")
    with pytest.raises(SystemExit, match="put it back"):
        replaced(f"# mine\n{BEGIN} -->\n", card(model, FACTS))


def test_a_card_of_another_declaration_is_out_of_date(tmp_path: Path) -> None:
    model = load_model("late_ferry").model_copy(update={"folder": tmp_path})
    (tmp_path / "estimator.py").write_text("a = 1\n", encoding="utf-8")
    assert out_of_date(model) is None, "a model without a card"
    (tmp_path / "README.md").write_text(card(model, None), encoding="utf-8")
    assert END in (tmp_path / "README.md").read_text(encoding="utf-8")
    assert out_of_date(model) is None
    (tmp_path / "estimator.py").write_text("a = 1  # a comment\n", encoding="utf-8")
    assert out_of_date(model) is None
    other = model.model_copy(update={"candidates": (Candidate(name="other"),)})
    assert "make model-card MODEL=late_ferry" in (out_of_date(other) or "")
    assert declared(model.model_copy(update={"owner": "others"})) == declared(model), "it decides no fit"
    (tmp_path / "estimator.py").write_text("a = 2\n", encoding="utf-8")
    assert out_of_date(model) is not None
