"""Text of another form than declared is sealed in tables; a corrected declaration makes values of it again."""

import shutil
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from include.core.interval import Interval
from include.core.project import Project
from include.core.settings import Settings
from include.operations.revalidate import revalidate
from include.steps.land import land
from include.steps.validate import validate
from tests.integration.drugstore import put_plan, put_sales
from tests.landing import rows_of

DAY = date(2026, 11, 12)
SALES_DAY = DAY - timedelta(days=7)
RUN = Interval.of(DAY)


def with_decimal(decimal: str) -> Callable[[dict[str, Any]], None]:
    def change(declared: dict[str, Any]) -> None:
        declared["feeds"]["sales"]["format"]["decimal"] = decimal

    return change


def test_a_corrected_format_reads_sealed_text_although_the_file_is_gone(
    load_changed: Callable[..., Project], settings: Settings
) -> None:
    project = load_changed("drugstore", with_decimal(","))
    put_plan(settings, DAY)
    put_sales(settings, SALES_DAY, "2.5")
    land(project, RUN, settings)
    [refusal] = validate(project, RUN, settings).refused
    assert "found a point before the decimals, declared is a number with the decimal separator ','" in refusal.why
    assert rows_of(settings, "raw_drugstore__sales")["pieces"].item().startswith("sealed:")
    assert rows_of(settings, "quarantine_drugstore__sales").is_empty()
    assert rows_of(settings, "clean_drugstore__sales").is_empty()

    shutil.rmtree(Path(settings.landing) / "drugstore" / "sales")
    corrected = load_changed("drugstore", with_decimal("."))
    assert revalidate(corrected, Interval.of(SALES_DAY), settings).refused == ()
    assert rows_of(settings, "clean_drugstore__sales")["pieces"].to_list() == [2.5]


def test_sealed_text_in_quarantine_comes_back_too(load_changed: Callable[..., Project], settings: Settings) -> None:
    """The file may have few wrong rows; then it is declared that their word means: no value."""

    def with_null(*words: str) -> Callable[[dict[str, Any]], None]:
        return lambda declared: declared["feeds"]["sales"]["format"].update(null_values=[*words])

    project = load_changed("drugstore", with_null())
    rules = "sales:\n  - {expect: share_of_quarantined_rows_to_be_at_most, max_value: 0.5, severity: critical}\n"
    put_plan(settings, DAY)
    put_sales(settings, SALES_DAY, f"2,5\ni2;{SALES_DAY};Erika Mustermann;NA")
    (project.folder / "expectations.yaml").write_text(rules, encoding="utf-8")
    land(project, RUN, settings)
    assert validate(project, RUN, settings).quarantined == 1
    assert rows_of(settings, "quarantine_drugstore__sales")["pieces"].item().startswith("sealed:")

    shutil.rmtree(Path(settings.landing) / "drugstore" / "sales")
    corrected = load_changed("drugstore", with_null("NA"))
    (corrected.folder / "expectations.yaml").write_text(rules, encoding="utf-8")
    assert revalidate(corrected, Interval.of(SALES_DAY), settings).rows == 1
    assert rows_of(settings, "quarantine_drugstore__sales").is_empty()
    assert rows_of(settings, "clean_drugstore__sales")["pieces"].to_list() == [2.5, None]
