"""plan: what a branch would change, compared with what really changes when the branch runs."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
import yaml
from typer.testing import CliRunner

from include import cli
from include.config.loading import load_model, load_project
from include.core.changes import features_digest
from include.core.errors import ActionRequiredError
from include.core.interval import Interval
from include.core.settings import Settings
from include.io import postgres
from include.io.journal import read_journal
from include.io.tables import Tables
from include.operations.plan import make_plan
from include.operations.plan_words import ChangePlan, as_markdown, commands, costs, effects, text
from include.steps import publish as step
from tests.integration import small, training
from tests.integration.drugstore import put_plan, put_sales
from tests.own_projects import FOLDER

MODEL = "late_ferry"
AUTHOR = ("-c", "user.name=Ana", "-c", "user.email=ana@example.org")
DAYS = Interval(start=small.DAY, end=small.DAY + timedelta(days=3))


@pytest.fixture
def branch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A team's own repository with the projects of the tests on main, and a branch that has changed nothing yet."""
    root = tmp_path / "team"
    shutil.copytree(FOLDER, root / "projects", ignore=shutil.ignore_patterns("__pycache__"))
    (root / ".gitignore").write_text("__pycache__/\n", encoding="utf-8")
    for arguments in (
        ("init", "-q", "-b", "main"),
        ("add", "."),
        (*AUTHOR, "commit", "-qm", "projects"),
        ("checkout", "-qb", "change"),
    ):
        subprocess.run(["git", "-C", str(root), *arguments], check=True)
    monkeypatch.setenv("NIGHTLY_PROJECTS", str(root / "projects"))
    forget()
    yield root / "projects"
    forget()


def forget() -> None:
    load_project.cache_clear()
    load_model.cache_clear()


def replace(path: Path, old: str, new: str) -> None:
    declared = path.read_text(encoding="utf-8")
    assert old in declared
    path.write_text(declared.replace(old, new, 1), encoding="utf-8")
    forget()


def restore(branch: Path) -> None:
    subprocess.run(["git", "-C", str(branch), "checkout", "-q", "."], check=True)
    forget()


def url(settings: Settings) -> str:
    return settings.database_url.get_secret_value()


def run(settings: Settings, statement: str, **values: object) -> None:
    with postgres.connection.engine(settings).begin() as connection:
        connection.execute(sa.text(statement), values)


@pytest.fixture
def installation(settings: Settings, branch: Path) -> Settings:
    """Four prepared days of main, a champion, its published scores, and recorded runs."""
    project = load_project("ferries")
    small.prepare(settings, project, *DAYS.days)
    run(settings, "UPDATE prepared_days SET config_digest = :digest", digest=features_digest(project))
    small.promoted(settings, MODEL, 1, DAYS.start)
    small.score(settings, project, MODEL, *DAYS.days)
    step.publish(load_model(MODEL), DAYS, settings)
    moment = small.as_of(DAYS.start)
    for seconds, model, name in ((10, None, "build_features"), (30, None, "build_features"), (5, MODEL, "fit")):
        postgres.audit.record_step(
            settings, name, "ferries", Interval.of(DAYS.start), state="success", model=model,
            started_at=moment, ended_at=moment + timedelta(seconds=2 * seconds), core_seconds=seconds,
        )  # fmt: skip
    return settings


PROJECT = "project.yaml"
YAML = f"models/{MODEL}/model.yaml"
NEW_FEED = """feeds:
  prices:
    source: {kind: sql, connection: shop_db, query: "SELECT secret_column, valid_on FROM prices WHERE valid_on = :day"}
    required: false
    live_from: 2013-01-01
    key: [company]
    day_column: valid_on
    columns:
      company: {type: string, class: public}
      valid_on: {type: date, class: public}
"""


def planned(settings: Settings | None, name: str = "ferries") -> ChangePlan:
    return make_plan(name, "main", url(settings) if settings else None)


def has(sentences: list[str], *parts: str) -> bool:
    return any(all(part in sentence for part in parts) for sentence in sentences)


def test_each_kind_of_change_has_its_own_effect(installation: Settings, branch: Path) -> None:
    folder = branch / "ferries"
    assert planned(installation).changes == []
    assert effects(planned(installation)) == ["Nothing differs: nothing is made otherwise, and nothing has to be run."]

    replace(folder / "features.py", "import Feeds\n", "import Feeds\n\n# A comment.\n")
    replace(folder / PROJECT, "data-team", "data-team  # since May")
    found = planned(installation)
    assert [(c.file, c.effect.name) for c in found.changes] == [("features.py", "WORDS"), (PROJECT, "WORDS")]
    assert effects(found) == ["Only words change: nothing is made otherwise, and nothing has to be run."]
    assert (costs(found), commands(found)) == ([], [])
    restore(branch)

    replace(folder / PROJECT, "lookback_days: 27", "lookback_days: 55")
    found = planned(installation)
    assert [c.what for c in found.changes] == ["feeds.logbook.lookback_days: 27 → 55"]
    said = effects(found)
    assert has(said, "Prepared days: 4 days (2013-03-01 to 2013-03-04) would be made otherwise")
    assert has(said, "only repair gives them others")
    assert has(said, "late_ferry: the champion, version 1, was fitted on features as they were made before")
    assert has(said, "late_ferry: 4 days (2013-03-01 to 2013-03-04) are published (version 1). They stay")
    assert (
        "build_features: 4 days × 20.0 core-seconds = 80 core-seconds, 160 s by the clock (median of 2 recorded runs)"
        in costs(found)
    )
    assert "land: unknown: no recorded run" in costs(found)
    span = "--project ferries --start 2013-03-01 --end 2013-03-04"
    steps = dict(commands(found))["Only if prepared days are to have the new features too"]
    assert steps == [
        f"python -m include.cli land {span}",
        f"python -m include.cli validate {span}",
        f"python -m include.cli repair {span} --by NAME --why REASON",
        f"python -m include.cli build_features {span}",
    ]
    restore(branch)

    replace(folder / "features.py", 'F.weekday("day") >= 5', 'F.weekday("day") >= 4')
    found = planned(installation)
    assert [(c.file, c.what, c.effect.name) for c in found.changes] == [("features.py", "its code changed", "FEATURES")]
    steps = dict(commands(found))["Only if prepared days are to have the new features too"]
    assert steps == [f"python -m include.cli build_features {span}"]
    restore(branch)

    replace(folder / YAML, "kind: calibration, at_most: 0.06", "kind: calibration, at_most: 0.05")
    found = planned(installation)
    assert [c.what for c in found.changes] == ["gate.checks[calibration].at_most: 0.06 → 0.05"]
    assert has(effects(found), "late_ferry: the gate decides by other rules, with no new fit", "version 1, stays")
    assert not has(effects(found), "next fit") and not has(effects(found), "ferry_delay")
    restore(branch)

    replace(folder / YAML, "at_least: 0.55, days: 3", "at_least: 0.55, days: 4")
    found = planned(installation)
    assert [c.what for c in found.changes] == ["monitors[performance].rules[roc_auc].days: 3 → 4"]
    assert effects(found) == [
        "late_ferry: the next monitor run measures and raises alerts by other rules. Nothing is fitted or scored again."
    ]
    assert commands(found) == []
    restore(branch)

    before = load_model(MODEL).digest
    replace(folder / YAML, "max_iter: 30", "max_iter: 40")
    found = planned(installation)
    assert [c.what for c in found.changes] == ["candidates[boosted].params.max_iter: 30 → 40"]
    assert has(effects(found), "late_ferry: the next fit is another one", "not comparable with those of version 1")
    assert has(effects(found), "4 days (2013-03-01 to 2013-03-04) are published (version 1). They stay")
    assert not has(effects(found), "Features: run dates")
    assert has(costs(found), "late_ferry.fit: 2 fits", "10 core-seconds")
    assert load_model(MODEL).digest != before
    restore(branch)

    replace(folder / PROJECT, "feeds:\n", NEW_FEED)
    found = planned(installation)
    assert [(c.what, c.effect.name) for c in found.changes] == [("feeds.prices: added", "READING")]
    everything = "\n".join([*text(found), *as_markdown(found)])
    assert "secret_column" not in everything and "shop_db" not in everything


def test_an_operator_can_plan_and_nothing_is_written(
    installation: Settings, branch: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The login has the role `ops_reader`; without a database, the file of costs says what a day costs."""
    replace(branch / "ferries" / PROJECT, "lookback_days: 27", "lookback_days: 55")
    run(installation, "DROP ROLE IF EXISTS otto")
    run(installation, "CREATE ROLE otto LOGIN IN ROLE ops_reader")
    monkeypatch.setenv("NIGHTLY_DATABASE_URL", str(sa.make_url(url(installation)).set(username="otto")))
    call = CliRunner().invoke
    asked = ["plan", "--project", "ferries"]
    done = call(cli.app, [*asked, "--exit-code"])
    assert done.exit_code == 1, done.output
    assert "Prepared days: 4 days" in done.output and "was not read" not in done.output
    file = tmp_path / "costs.json"
    assert call(cli.app, [*asked, "--format", "costs", "--output", str(file)]).exit_code == 0
    assert json.loads(file.read_text(encoding="utf-8"))["build_features"]["runs"] == 2

    monkeypatch.delenv("NIGHTLY_DATABASE_URL")
    comment = tmp_path / "plan.md"
    done = call(cli.app, [*asked, "--format", "markdown", "--costs", str(file), "--output", str(comment)])
    assert (done.exit_code, done.output) == (0, "")
    written = comment.read_text(encoding="utf-8")
    assert "20.0 core-seconds and 40.0 s for each day" in written
    assert r"feeds.logbook.lookback\_days: 27 → 55" in written
    status = subprocess.run(
        ["git", "-C", str(branch), "status", "--porcelain"], capture_output=True, text=True, check=True
    )
    assert status.stdout == " M projects/ferries/project.yaml\n"


def commit(branch: Path) -> None:
    """Make what the working tree has the newest commit of main."""
    for arguments in (("add", "-A"), (*AUTHOR, "commit", "-qm", "more"), ("branch", "-f", "main")):
        subprocess.run(["git", "-C", str(branch), *arguments], check=True)


def test_files_that_come_or_go_and_rules_of_rows_are_named(branch: Path) -> None:
    folder = branch / "ferries"
    shutil.copytree(folder / "models" / MODEL, folder / "models" / "new_one")
    shutil.rmtree(folder / "models" / "ferry_delay")
    (folder / "helpers.py").write_text("LIMIT = 3\n", encoding="utf-8")
    (folder / "list.csv").write_text("a\n", encoding="utf-8")
    (folder / "models" / MODEL / "README.md").write_text("Another card.\n", encoding="utf-8")
    replace(folder / "expectations.yaml", "max_value: ", "max_value: 9")
    found = planned(None)
    named = {(c.file, c.what, c.effect.name) for c in found.changes if c.effect.name != "EXPECTATIONS"}
    assert named == {
        ("helpers.py", "is new", "FEATURES"),
        ("models/ferry_delay/model.yaml", "the model is removed", "RUNS"),
        ("models/new_one/model.yaml", "the model is new", "FIT"),
        (f"models/{MODEL}/README.md", "text", "WORDS"),
        ("list.csv", "a file that no digest covers", "PRODUCT"),
    }
    assert has(effects(found), "Validation: it counts for deliveries that are validated from now on")
    assert has(effects(found), "new_one: the model is new")
    commit(branch)
    assert planned(None).changes == []

    shutil.copytree(branch / "drugstore", branch / "bakery")
    assert [c.what for c in planned(None, "bakery").changes if c.effect.name == "FEATURES"] == ["the project is new"]


def test_a_project_that_this_code_cannot_read_as_it_was_is_compared_as_text(branch: Path) -> None:
    replace(branch / "ferries" / PROJECT, "schedule:", "colour: red\nschedule:")
    replace(branch / "ferries" / YAML, "train_days: 60", "train_days: 1")
    commit(branch)
    replace(branch / "ferries" / PROJECT, "colour: red\n", "")
    replace(branch / "ferries" / YAML, "train_days: 1", "train_days: 60")
    found = planned(None)
    assert [c.what for c in found.changes] == ["colour: red → (not declared)", "train_days: 1 → 60"]
    assert has(list(found.notes), "cannot read project.yaml as it was")
    assert has(list(found.notes), f"cannot read {YAML} as it was")


def test_what_a_plan_lacks_is_said_in_words(
    installation: Settings, branch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that does not answer, a ref that is not there, a folder outside of git; no password is printed."""
    silent = "postgresql://olga:hunter2@127.0.0.1:1/nightly"
    found = make_plan("ferries", "main", silent)
    assert has(list(found.notes), "The shared database was not read: it does not answer.")
    assert "hunter2" not in "\n".join([*text(found), *as_markdown(found)])
    run(installation, "DROP ROLE IF EXISTS ruth")
    run(installation, "CREATE ROLE ruth LOGIN IN ROLE reader")
    found = make_plan("ferries", "main", str(sa.make_url(url(installation)).set(username="ruth")))
    assert has(list(found.notes), "its login may not read the views of operators (role ops_reader)")
    with pytest.raises(ActionRequiredError, match="has no such branch, tag or commit; type git fetch origin elsewhere"):
        make_plan("ferries", "elsewhere", None)

    shutil.rmtree(branch.parent / ".git")
    with pytest.raises(ActionRequiredError, match="is in no git repository, and there is no database at hand"):
        make_plan("ferries", "main", None)
    assert not planned(installation).has_effect
    replace(branch / "ferries" / PROJECT, "lookback_days: 27", "lookback_days: 55")
    assert has(effects(planned(installation)), "Prepared days: 4 days")


def test_a_database_of_an_older_version_is_read_and_its_migration_is_pending(
    installation: Settings, branch: Path
) -> None:
    run(installation, "UPDATE nightly_ml_version SET version_num = '0011'")
    found = planned(installation)
    pending = "Schema: a migration is pending (the shared database is at migration 0011; the code needs "
    assert has(effects(found), f"{pending}{found.newest_migration}).")
    assert commands(found)[0][1] == ["python -m include.cli migrate"]
    run(installation, "DROP VIEW schema_revision, prepared_day_digests")
    found = planned(installation)
    assert found.is_migration_pending
    assert has(effects(found), "4 days", "what made 4 of them is not recorded")


@pytest.mark.spark
@pytest.mark.timeout(600)
def test_the_announced_digest_is_what_the_next_prepared_day_records(
    settings: Settings, branch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commands of the plan are typed as they are; a comment changes no row and no digest."""
    monkeypatch.setattr(cli, "_settings", lambda: settings)
    day = date(2026, 11, 20)
    put_plan(settings, day)
    put_sales(settings, date(2026, 10, 10), "9")
    put_sales(settings, date(2026, 11, 12), "1")

    def type_(command: str) -> None:
        words = command.replace("NAME", "Ana").replace("REASON", "longer").split()
        done = CliRunner().invoke(cli.app, words[3:])
        assert done.exit_code == 0, done.output

    def recorded() -> tuple[str | None, tuple[str, ...]]:
        [found] = postgres.days.read_prepared_days(settings, "drugstore", Interval.of(day))
        return found.config_digest, found.deliveries

    def rows() -> list[tuple[object, ...]]:
        return Tables(settings).scan("features_drugstore").sort("entity_id").collect().rows()

    for name in ("land", "validate", "build_features"):
        type_(f"python -m include.cli {name} --project drugstore --start {day}")
    first, made = recorded(), rows()
    assert first[0] == planned(settings, "drugstore").features_digest

    replace(branch / "drugstore" / "features.py", '"""Return one row', '"""Make one row')
    found = planned(settings, "drugstore")
    assert not found.has_effect and found.other_days == []
    type_(f"python -m include.cli build_features --project drugstore --start {day}")
    assert (recorded(), rows()) == (first, made)

    replace(branch / "drugstore" / PROJECT, "lookback_days: 27", "lookback_days: 55")
    found = planned(settings, "drugstore")
    assert found.other_days == [day] and found.features_digest != first[0]
    for command in dict(commands(found))["Only if prepared days are to have the new features too"]:
        type_(command)
    digest, deliveries = recorded()
    assert digest == found.features_digest
    assert len(deliveries) == len(first[1]) + 1 and any("2026-10-10" in each for each in deliveries)
    assert planned(settings, "drugstore").other_days == []
    assert read_journal(settings, load_project("drugstore")).records[day].number == 2


def test_the_announced_digest_is_what_the_next_fit_records(prepared: Settings, branch: Path) -> None:
    """A gate threshold leaves the fit as it is, and it is reused; a parameter makes another one."""
    path = branch / "ferries" / YAML
    declared = yaml.safe_load(path.read_text(encoding="utf-8"))
    linear = [{"name": "linear", "params": {"kind": "linear", "C": 0.1}}]
    declared |= {"candidates": linear, "train_days": 19, "validation_days": 3, "holdout_days": 5, "min_fit_days": 8}
    path.write_text(yaml.safe_dump(declared), encoding="utf-8")
    forget()

    def fit(announced: ChangePlan) -> tuple[str, str]:
        fitted = training.fit_one(prepared, "linear", announced.models[MODEL])
        tags = training.client(prepared).get_run(fitted.run_id).data.tags
        assert tags["config_digest"] == announced.models[MODEL].digest
        return fitted.run_id, fitted.digest

    first = fit(planned(None))
    declared["gate"]["checks"][0]["at_least"] = 6000
    path.write_text(yaml.safe_dump(declared), encoding="utf-8")
    forget()
    assert fit(planned(None)) == first
    replace(path, "C: 0.1", "C: 0.2")
    assert fit(planned(None)) != first
