"""Configuration: an error names the file, the key and the nearest right one; days and cutoffs are exact."""

import copy
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any

import pytest
import yaml

from include.config import loading
from include.config.loading import load_model, load_project, model_names, project_names, read_ahead, read_yaml
from include.config.model import Model
from include.core.errors import ConfigError, nearest
from include.core.project import Project
from include.core.variants import kinds_in
from include.gate.checks import AnyCheck
from include.monitoring.degradation import DegradationMonitor
from include.monitoring.drift import DriftMonitor
from include.monitoring.estimate import EstimateMonitor
from include.monitoring.freshness import FreshnessMonitor
from include.monitoring.performance import PerformanceMonitor
from include.monitoring.scores import ScoresMonitor
from include.monitoring.skew import SkewMonitor
from tests.own_projects import FOLDER, costs_of

FERRIES = yaml.safe_load((FOLDER / "ferries" / "project.yaml").read_text(encoding="utf-8"))
LATE = yaml.safe_load((FOLDER / "ferries" / "models" / "late_ferry" / "model.yaml").read_text(encoding="utf-8"))

QUALITY = {"kind": "quality", "metric": "roc_auc", "at_least": 0.6}

AUC = {"metric": "roc_auc", "at_least": 0.55, "days": 3, "of": 7}


@pytest.fixture
def projects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a folder of projects that is empty."""
    monkeypatch.setenv("NIGHTLY_PROJECTS", str(tmp_path))
    for cached in (load_project, load_model):
        cached.cache_clear()
    yield tmp_path
    monkeypatch.undo()
    for cached in (load_project, load_model):
        cached.cache_clear()


def write(projects: Path, declared: object, name: str = "ferries", model: str | None = None) -> Path:
    path = projects / name / ("project.yaml" if model is None else f"models/{model}/model.yaml")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(declared if isinstance(declared, str) else yaml.safe_dump(declared), encoding="utf-8")
    return path


def changed(declared: dict[str, Any], keys: str, value: object) -> dict[str, Any]:
    """Return the declaration with one key set, or removed (None). Dots separate keys; a kind selects a list's entry."""
    found = whole = copy.deepcopy(declared)
    *parents, last = keys.split(".")
    for key in parents:
        found = found[key] if isinstance(found, dict) else next(each for each in found if each["kind"] == key)
    if value is None:
        del found[last]
    else:
        found[last] = value
    return whole


def assert_message(path: Path, said: str, error: ConfigError) -> None:
    """Assert that the message begins with the file, and with the line unless it is about the whole file."""
    assert re.search(rf"^{re.escape(str(path))}(, line \d+)?: {re.escape(said)}", str(error), re.MULTILINE), str(error)


class TestProject:
    def test_the_example_project_is_valid(self, projects: Path) -> None:
        write(projects, FERRIES)
        project = load_project("ferries")
        assert (project.name, project.timezone) == ("ferries", "America/New_York")
        assert project.folder == projects / "ferries"

    @pytest.mark.parametrize(
        ("key", "value", "said"),
        [
            ("tittle", "x", "tittle: unknown key; did you mean 'title'?"),
            ("feeds.sailings.delaydays", 1, "feeds.sailings.delaydays: unknown key; did you mean 'delay_days'?"),
            (
                "feeds.logbook.columns.vessel.clas",
                "identifier",
                "feeds.logbook.columns.vessel.clas: unknown key; did you mean 'class'?",
            ),
            ("entity.kee", [], "entity.kee: unknown key; did you mean 'key'?"),
            (
                "run_on",
                {"outcomes": "databricks"},
                "run_on: outcomes writes to the shared database, which Databricks cannot reach; write worker or spark",
            ),
            (
                "run_on",
                {"validate": "databricks"},
                "run_on: validate needs the hash key and the shared database, which Databricks cannot reach",
            ),
            ("outcomes.late_ferry.sgl", "1", "outcomes.late_ferry.sgl: unknown key; did you mean 'sql'?"),
            ("name", "ferries", "name: is the folder's name, and is not written in the file"),
            ("timezone", "America/NewYork", "timezone: no timezone 'America/NewYork'; did you mean 'America/New_York'"),
            ("timezone", "??", "timezone: no timezone '??'; write it as 'America/New_York'"),
            ("timezone", "America", "timezone: no timezone 'America'"),
            ("timezone", "../etc/passwd", "timezone: no timezone '../etc/passwd'"),
            ("first_day", "soon", "first_day: Input should be a valid date"),
            ("cutoff", "25:00", "cutoff: Input should be in a valid time format"),
            ("cutoff", 630, "cutoff: write the time as hours and minutes, 10:30"),
            ("owner", None, "owner: Field required"),
            ("feeds.Schedule", FERRIES["feeds"]["sailings"], "feeds.Schedule: String should match pattern"),
            ("feeds.sailings.path", "a/day", "feeds.sailings: path: 'a/day' has no {day}"),
            ("feeds.sailings.path", "{date}/{day}", "feeds.sailings: path: '{date}/{day}' has braces other than {day}"),
            ("feeds.sailings.path", "{day:%Y/%b}", "feeds.sailings: path: '{day:%Y/%b}' has '%b'; a day is made of %Y"),
            (
                "feeds.sailings.path",
                "winds/{day}/*",
                "feeds.winds.path: a file can match 'winds/{day}/*.csv.gz' and the path of feed sailings, ",
            ),
            (
                "feeds.sailings.path",
                "winds/{day}/w.csv.gz.json",
                "feeds.winds.path: a file of feed sailings or winds can be named like a sidecar of the other",
            ),
            (
                "feeds.sailings.key",
                ["compny"],
                "feeds.sailings: key: 'compny' is not in columns; did you mean 'company'?",
            ),
            ("feeds.sailings.day_column", "dest", "feeds.sailings: day_column: 'dest' is neither a timestamp nor a"),
            ("feeds.sailings.key", ["contact_email"], "feeds.sailings: key: 'contact_email' is sensitive"),
            (
                "feeds.sailings.columns.Day",
                {"type": "string", "class": "public"},
                "feeds.sailings: columns.Day: the pipeline adds",
            ),
            (
                "feeds.sailings.columns.entity_id",
                {"type": "string", "class": "public"},
                "feeds.sailings: columns.entity_id: the pipe",
            ),
            ("feeds.sailings.columns.dest.type", "text", "feeds.sailings.columns.dest.type: Input should be 'string'"),
            (
                "feeds.logbook.columns.vessel.type",
                "integer",
                "feeds.logbook.columns.vessel: type: an identifier is hashed, so its type must be string",
            ),
            (
                "feeds.logbook.columns.vessel.format",
                "[",
                "feeds.logbook.columns.vessel: format: '[' is not a regular expression: unterminated character set",
            ),
            (
                "feeds.sailings.columns.dest",
                {"type": "string"},
                "feeds.sailings.columns.dest: class: say what the values are. Write one of: `class: public` (kept,",
            ),
            (
                "feeds.sailings.columns.dest",
                {"type": "string", "class": "personal"},
                "feeds.sailings.columns.dest.class: Input should be 'public', 'identifier' or 'sensitive'",
            ),
            (
                "feeds.logbook.columns.vessel",
                {"type": "string", "class": "identifier"},
                "feeds.logbook.columns.vessel: format: say which form the values of this identifier have",
            ),
            (
                "feeds.winds.columns.humidity_percent.format",
                "[0-9]+",
                "feeds.winds.columns.humidity_percent: format: the values are of type double, which says their form",
            ),
            ("entity.feed", "sailingss", "entity.feed: no feed 'sailingss'; did you mean 'sailings'?"),
            ("entity.key", ["contact_email"], "entity.key: sailings keeps no column 'contact_email'; there is "),
            (
                "outcomes.late_ferry.feed",
                "logbok",
                "outcomes.late_ferry.feed: no feed 'logbok'; did you mean 'logbook'?",
            ),
            ("outcomes.late_ferry.feed", "winds", "outcomes.late_ferry.feed: winds has delay_days 0: a day"),
            ("entity_fraction", True, "entity_fraction: Input should be a valid number"),
            ("entity_fraction", "5 %", "entity_fraction: Input should be a valid number"),
            ("entity_fraction", 0, "entity_fraction: Input should be greater than 0"),
            ("entity_fraction", 1.01, "entity_fraction: Input should be less than or equal to 1"),
            ("entity_fraction", float("nan"), "entity_fraction: Input should be a finite number"),
            (
                "outcomes.dest",
                FERRIES["outcomes"]["late_ferry"],
                "outcomes.dest: feed logbook has a column of that name; rename the outcome",
            ),
            (
                "outcomes.day",
                FERRIES["outcomes"]["late_ferry"],
                "outcomes.day: the pipeline adds a column of that name; rename the outcome",
            ),
            (
                "outcomes." + "o" * 64,
                FERRIES["outcomes"]["late_ferry"],
                f"outcomes.{'o' * 64}: String should have at most",
            ),
            ("feeds." + "f" * 64, FERRIES["feeds"]["winds"], f"feeds.{'f' * 64}: String should have at most 40 char"),
            (
                "feeds.sailings.columns." + "é" * 32,
                {"type": "string", "class": "public"},
                f"feeds.sailings: columns.{'é' * 32}: the name has more than 63 bytes, which is PostgreSQL's limit",
            ),
            (
                "feeds.sailings.columns.",
                {"type": "string", "class": "public"},
                "feeds.sailings: columns.: a name is printable text without",
            ),
            (
                "feeds.sailings.columns.a,b",
                {"type": "string", "class": "public"},
                "feeds.sailings: columns.a,b: a name is printable text",
            ),
            (
                "feeds.sailings.columns.a\tb",
                {"type": "string", "class": "public"},
                "feeds.sailings: columns.a\\tb: a name is printable text",
            ),
            (
                "feeds.sailings.columns.Dest",
                {"type": "string", "class": "public"},
                "feeds.sailings: columns.dest: differs from Dest by",
            ),
            (
                "feeds.logbook.columns.ferry.type",
                "string",
                "feeds.logbook.columns.ferry: is string, public, but integer, public in sailings; the key of the",
            ),
            (
                "schedule",
                "0 2 * * *",
                "schedule: 02:00 (0 2 * * *) is before the cutoff, 03:00, so a run would start too early; move the",
            ),
            ("schedule", "at three", "schedule: 'at three' is not a cron expression; write minute, hour, day, month"),
            ("feeds.sailings.required", False, "entity.feed: sailings is not required, but without its file a run has"),
            ("feeds.winds.days", "mon-son", "feeds.winds.days: there is no weekday 'son'; did you mean 'sun'?"),
            ("feeds.winds.arrives", 900, "feeds.winds.arrives: write the time as hours and minutes, 10:30"),
            (
                "feeds.winds.holidays",
                {"country": "XX"},
                "feeds.winds.holidays: country: the library holidays has no 'XX'",
            ),
        ],
    )
    def test_an_error_names_file_and_key(self, projects: Path, key: str, value: object, said: str) -> None:
        path = write(projects, changed(FERRIES, key, value))
        with pytest.raises(ConfigError) as caught:
            load_project("ferries")
        assert_message(path, said, caught.value)

    def test_a_public_column_has_no_name_that_postgresql_uses(self, projects: Path) -> None:
        declared = changed(FERRIES, "feeds.sailings.columns.xmin", {"type": "string", "class": "public"})
        path = write(projects, changed(declared, "entity.public", ["xmin"]))
        with pytest.raises(ConfigError) as caught:
            load_project("ferries")
        assert_message(path, "entity.public: 'xmin' is a column of every table of PostgreSQL; rename it", caught.value)

    def test_a_message_names_the_line(self, projects: Path) -> None:
        path = write(projects, yaml.safe_dump(FERRIES).replace("delay_days: 1", "delaydays: 1"))
        line = path.read_text(encoding="utf-8").split("delaydays")[0].count("\n") + 1
        with pytest.raises(ConfigError) as caught:
            load_project("ferries")
        assert f"{path}, line {line}: feeds.logbook.delaydays: unknown key" in str(caught.value)

    def test_a_time_needs_no_quotes(self, projects: Path) -> None:
        declared = yaml.safe_dump(changed(changed(FERRIES, "cutoff", "10:30"), "schedule", "30 10 * * *"))
        write(projects, declared.replace("'10:30'", "10:30"))
        assert load_project("ferries").cutoff == time(10, 30)

    def test_all_errors_are_reported_at_once(self, projects: Path) -> None:
        path = write(projects, changed(changed(FERRIES, "tittle", 1), "entity.kee", 1))
        with pytest.raises(ConfigError) as caught:
            load_project("ferries")
        assert str(caught.value).count(str(path)) == 2

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("title: x\ntitle: y\n", ', line 2: not YAML: found duplicate key "title"'),
            ("feeds:\n  a:\n    {key: [x], key: [y]}\n", ', line 3: not YAML: found duplicate key "key"'),
            ("title: [\n", ", line 2: not YAML: expected the node content"),
            ("just text", ": must be a mapping of keys"),
            ("", ": must be a mapping of keys"),
        ],
    )
    def test_a_file_that_is_not_a_mapping_is_refused(self, projects: Path, text: str, said: str) -> None:
        path = write(projects, text)
        with pytest.raises(ConfigError, match=f"{path}{said}"):
            load_project("ferries")

    def test_an_unknown_name_is_refused(self, projects: Path) -> None:
        write(projects, FERRIES)
        with pytest.raises(ConfigError, match=r"no project 'ferry' in .*; did you mean 'ferries'\?"):
            load_project("ferry")
        with pytest.raises(ConfigError, match="cannot be read"):
            read_yaml(projects / "nowhere.yaml")

    def test_two_projects_may_have_feeds_of_one_name(self, projects: Path) -> None:
        write(projects, FERRIES)
        write(projects, FERRIES, name="other")
        assert load_project("other").feeds.keys() == load_project("ferries").feeds.keys()

    def test_all_projects_and_models_are_valid(self) -> None:
        assert project_names()
        for name in project_names():
            assert load_project(name).name == name
            assert load_project(name).entity_fraction == 1, (
                f"include/projects/{name}/project.yaml: `entity_fraction` is to try things on; take it out before you "
                "commit, or nothing is prepared, scored and published"
            )
        assert model_names()
        for name in model_names():
            assert load_model(name).name == name


class TestModel:
    @pytest.fixture
    def ferries(self, projects: Path) -> Path:
        write(projects, FERRIES)
        return projects

    @pytest.mark.parametrize(
        ("key", "value", "said"),
        [
            ("traindays", 1, "traindays: unknown key; did you mean 'train_days'?"),
            ("run_on", {"fit": "spark"}, "run_on.fit: a fit does not run on Spark, since one estimator gets all rows"),
            (
                "candidates",
                [{"name": "a", "parms": {}}],
                "candidates.0.parms: unknown key; did you mean 'params'?",
            ),
            ("candidates", [{"name": "a"}, {"name": "a"}], "two candidates have the same name"),
            ("holdout_days", 53, "validation_days (7) and holdout_days (53) must together be less than train_days"),
            ("quantiles", [0.5, 0.1, 0.9], "quantiles must be three numbers between 0 and 1, in ascending order"),
            ("classes", ["a", "b"], "classes: is not written in the file; `labels` of the outcome"),
            ("outcome", "late_fery", "outcome: no outcome 'late_fery'; did you mean 'late_ferry'?"),
            ("gate", None, "gate: Field required"),
            ("gate.check", [], "gate.check: unknown key; did you mean 'checks'?"),
            ("gate.checks", [], "gate.checks: quality has no safe default; list {kind: quality, metric: …}"),
            (
                "gate.checks",
                [QUALITY],
                "gate.checks: slices has no safe default; list {kind: slices, by: …}",
            ),
            ("gate.checks", [{"metric": "mae"}], "gate.checks.0.kind: is needed; there is enough_rows, quality, cali"),
            (
                "gate.checks",
                [{"kind": "dumy_baseline"}],
                "gate.checks.0.kind: there is no 'dumy_baseline'; did you mean 'dummy_baseline'?",
            ),
            ("gate.checks", [QUALITY, QUALITY], "gate: quality of roc_auc is listed twice"),
            ("gate.checks", [{"kind": "size"}] * 2, "gate: size is listed twice"),
            ("gate.checks.champion.resample", 9, "gate.checks.6.resample: unknown key; did you mean 'resamples'?"),
            (
                "gate.checks.slices.groups",
                {"company_size": {"off": "carrier", "values": {"a": ["1"]}, "otherwise": "b"}},
                "gate.checks.7.groups.company_size.off: unknown key; did you mean 'of'?",
            ),
            (
                "gate.checks.linear_baseline.candidate",
                "linaer",
                "gate.checks: linear_baseline: candidate: no candidate 'linaer'; did you mean 'linear'?",
            ),
            (
                "candidates",
                [{"name": "a"}],
                "gate.checks: linear_baseline: candidate: no candidate 'linear'; there is a",
            ),
            (
                "gate.checks.quality.metric",
                "roc_auk",
                "gate.checks: quality: binary has no metric 'roc_auk'; did you mean 'roc_auc'?",
            ),
            ("gate.checks.leakage_check.metric", "mae", "gate.checks: leakage_check: binary has no metric 'mae'"),
            (
                "gate.checks.leakage_check.at_most",
                None,
                "gate.checks.10: roc_auc: exactly one of at_least and at_most",
            ),
            (
                "gate.checks.slices.by",
                ["compny"],
                "gate.checks: slices: by: no feature or group 'compny'; did you mean 'company'?",
            ),
            ("gate.checks.slices.by", [], "gate.checks.7.by: Tuple should have at least 1 item"),
            (
                "gate.checks.slices.groups",
                {"company_size": {"of": "month", "values": {"a": ["1"]}, "otherwise": "b"}},
                "gate.checks: slices: groups.company_size.of: no categorical feature 'month'",
            ),
            (
                "gate.checks.changed_decisions.over",
                5,
                "gate.checks: changed_decisions: over: means nothing for binary",
            ),
            ("problem_type", "regression", "gate.checks: quality: regression has no metric 'roc_auc'; there is mae"),
            (
                "gate.checks.champion.at_most",
                float("inf"),
                "gate.checks.6.at_most: Input should be a finite number",
            ),
            ("gate.checks.slices.at_most", float("nan"), "gate.checks.7.at_most: Input should be a finite number"),
            ("gate.checks.enough_rows.at_least", 0, "gate.checks.0.at_least: Input should be greater than or equal"),
            (
                "monitors",
                [{"kind": "freshnes"}],
                "monitors.0.kind: there is no 'freshnes'; did you mean 'freshness'?",
            ),
            ("monitors", [{"kind": "freshness"}] * 2, "monitors: freshness is listed twice"),
            ("monitors.performance.slice", [], "monitors.0.slice: unknown key; did you mean 'slices'?"),
            (
                "monitors.performance.slices",
                ["compny"],
                "monitors: performance: slices: ferries has no public column 'compny'; did you mean 'company'?",
            ),
            (
                "monitors.performance.slices",
                ["origin", "origin"],
                "monitors.0: slices: a column is listed twice",
            ),
            (
                "monitors.freshness.publish_by",
                "02:59",
                "monitors: freshness: publish_by: 02:59 is before the cutoff of ferries, 03:00",
            ),
            ("monitors.freshness.publish_by", 630, "monitors.1.publish_by: write the time as hours and minutes, 10:30"),
            ("monitors.performance.min_rows", 0, "monitors.0.min_rows: Input should be greater than or equal to 1"),
            (
                "monitors.performance.rules",
                [{**AUC, "metrik": 1}],
                "monitors.0.rules.0.metrik: unknown key; did you mean 'metric'?",
            ),
            (
                "monitors.performance.rules",
                [{**AUC, "metric": "roc_acu"}],
                "monitors: performance: rules: binary has no metric 'roc_acu'; did you mean 'roc_auc'?",
            ),
            (
                "monitors.performance.rules",
                [{**AUC, "metric": "mae"}],
                "monitors: performance: rules: binary has no metric 'mae'; there is log_loss, brier",
            ),
            (
                "monitors.performance.rules",
                [{**AUC, "at_most": 1}],
                "monitors.0.rules.0: roc_auc: exactly one of at_least and at_most is needed",
            ),
            (
                "monitors.performance.rules",
                [{"metric": "roc_auc", "days": 1, "of": 1}],
                "monitors.0.rules.0: roc_auc: exactly one of at_least and at_most is needed",
            ),
            (
                "monitors.performance.rules",
                [{**AUC, "days": 8}],
                "monitors.0.rules.0: 8 days of the newest 7 can never break it",
            ),
            (
                "monitors.performance.rules",
                [{**AUC, "at_least": float("nan")}],
                "monitors.0.rules.0.at_least: Input should be a finite",
            ),
            ("monitors.performance.rules", [AUC, AUC], "monitors.0: rules: two are the same"),
            ("train_schedule", "0 1 * * mon", "train_schedule: 01:00 (0 1 * * mon) is before the cutoff, 03:00, so a"),
            ("train_schedule", "mondays", "train_schedule: 'mondays' is not a cron expression; write minute, hour,"),
        ],
    )
    def test_an_error_names_file_and_key(self, ferries: Path, key: str, value: object, said: str) -> None:
        path = write(ferries, changed(LATE, key, value), model="late_ferry")
        with pytest.raises(ConfigError) as caught:
            load_model("late_ferry")
        assert_message(path, said, caught.value)

    def test_an_unknown_name_is_refused(self, ferries: Path) -> None:
        write(ferries, LATE, model="late_ferry")
        with pytest.raises(ConfigError, match=r"no model 'late_fery' in .*; did you mean 'late_ferry'\?"):
            load_model("late_fery")

    def test_two_projects_with_a_model_of_one_name_are_refused(self, ferries: Path) -> None:
        for project in ("ferries", "other"):
            write(ferries, LATE, name=project, model="late_ferry")
        with pytest.raises(ConfigError, match=r"is in two folders: .*; rename one folder"):
            load_model("late_ferry")

    def test_the_digest_follows_declaration_and_code(self, ferries: Path) -> None:
        path = write(ferries, LATE, model="late_ferry")
        code = path.with_name("estimator.py")

        def digest(declared: dict[str, Any], text: str) -> str:
            write(ferries, declared, model="late_ferry")
            code.write_text(text, encoding="utf-8")
            load_model.cache_clear()
            model: Model = load_model("late_ferry")
            return model.digest

        assert digest(LATE, "a") == digest(LATE, "a")
        others = {digest(LATE, "b"), digest(changed(LATE, "seed", 7), "a"), digest(LATE, "a")}
        assert len(others) == 3

    def test_the_gate_does_not_change_the_digest_of_a_fit(self, ferries: Path) -> None:
        path = write(ferries, LATE, model="late_ferry")
        path.with_name("estimator.py").write_text("", encoding="utf-8")
        before = load_model("late_ferry")
        load_model.cache_clear()
        write(ferries, changed(LATE, "gate.checks.enough_rows.at_least", 7), model="late_ferry")
        after: Model = load_model("late_ferry")
        assert (after.gate.checks[0].model_dump(), after.digest) == (
            {"kind": "enough_rows", "at_least": 7},
            before.digest,
        )

    def test_monitors_do_not_change_the_digest_of_a_fit(self, ferries: Path) -> None:
        path = write(ferries, LATE, model="late_ferry")
        path.with_name("estimator.py").write_text("", encoding="utf-8")
        before = load_model("late_ferry")
        load_model.cache_clear()
        write(ferries, changed(LATE, "monitors", None), model="late_ferry")  # it is optional
        assert load_model("late_ferry").digest == before.digest


class TestDefaults:
    """A short list of checks is enough: all others run with their defaults."""

    def of(self, projects: Path, problem_type: str, *checks: dict[str, Any]) -> Model:
        write(projects, FERRIES)
        declared = {**LATE, "problem_type": problem_type, "gate": {"checks": list(checks)}, "monitors": []}
        declared["costs"] = costs_of(problem_type)
        write(projects, declared, model="late_ferry")
        return load_model("late_ferry")

    def test_checks_that_are_not_listed_run_with_their_defaults(self, projects: Path) -> None:
        model = self.of(projects, "binary", {"kind": "slices", "by": ["origin"]}, QUALITY)
        every = list(kinds_in(AnyCheck))
        assert [check.kind for check in model.all_checks] == [
            kind for kind in every if kind not in ("seasonal_naive", "fairness")
        ]
        leakage = next(check for check in model.all_checks if check.kind == "leakage_check")
        assert leakage.model_dump() == {"kind": "leakage_check", "metric": "roc_auc", "at_most": 0.95, "at_least": None}

    def test_thresholds_in_the_unit_of_the_outcome_must_be_declared(self, projects: Path) -> None:
        listed = [{**QUALITY, "metric": "r2"}, {"kind": "slices", "by": ["origin"]}]
        for missing in (
            {"kind": "calibration", "at_most": 5},
            {"kind": "changed_decisions", "over": 10},
            {"kind": "score_shift", "at_most": 5},
        ):
            load_model.cache_clear()
            with pytest.raises(ConfigError, match=f"gate.checks: {missing['kind']} has no safe default"):
                self.of(projects, "regression", *listed)
            listed.append(missing)
        load_model.cache_clear()
        kinds = [check.kind for check in self.of(projects, "regression", *listed).all_checks]
        assert kinds == [kind for kind in kinds_in(AnyCheck) if kind not in ("calibration_error", "fairness")]

    def test_labels_and_multiclass_belong_together(self, projects: Path) -> None:
        listed = ({"kind": "slices", "by": ["origin"]}, {**QUALITY, "metric": "accuracy"})
        with pytest.raises(ConfigError, match=r"outcome late_ferry has no labels .*, so it cannot be multiclass"):
            self.of(projects, "multiclass", *listed)
        load_model.cache_clear()
        load_project.cache_clear()
        outcomes = {"late_ferry": {"feed": "logbook", "sql": "'late'", "labels": ["early", "late"]}}
        write(projects, {**FERRIES, "outcomes": outcomes})
        declared = {**LATE, "problem_type": "multiclass", "gate": {"checks": list(listed)}, "monitors": []}
        declared["costs"] = costs_of("multiclass")
        path = write(projects, declared, model="late_ferry")
        path.with_name("estimator.py").write_text("", encoding="utf-8")
        model = load_model("late_ferry")
        assert model.problem.labels == "the labels early, late"
        assert model.digest != model.model_copy(update={"classes": ("late", "early")}).digest
        write(projects, LATE, model="late_ferry")
        load_model.cache_clear()
        with pytest.raises(ConfigError, match="outcome late_ferry has labels, so it cannot be binary"):
            load_model("late_ferry")

    def test_a_second_metric_is_another_check(self, projects: Path) -> None:
        brier = {"kind": "quality", "metric": "brier", "at_most": 0.2}
        model = self.of(projects, "binary", brier, {"kind": "slices", "by": ["origin"]}, QUALITY)
        assert [check.subject for check in model.all_checks if check.kind == "quality"] == ["brier", "roc_auc"]

    def test_monitors_run_without_being_listed(self, projects: Path) -> None:
        monitors = self.of(projects, "binary", {"kind": "slices", "by": ["origin"]}, QUALITY).all_monitors
        assert {type(each): each for each in monitors} == {
            PerformanceMonitor: PerformanceMonitor(slices=(), min_rows=30, rules=()),
            FreshnessMonitor: FreshnessMonitor(publish_by=time(6)),
            DriftMonitor: DriftMonitor(slices=(), min_rows=30, false_alerts_a_month=1),
            ScoresMonitor: ScoresMonitor(),
            SkewMonitor: SkewMonitor(),
            DegradationMonitor: DegradationMonitor(),
            EstimateMonitor: EstimateMonitor(),
        }


class TestTime:
    @pytest.fixture
    def project(self) -> Project:
        return load_project("ferries")

    @pytest.mark.parametrize(
        ("day", "utc"),
        [
            (date(2013, 3, 9), datetime(2013, 3, 9, 8, tzinfo=UTC)),
            (date(2013, 3, 10), datetime(2013, 3, 10, 7, tzinfo=UTC)),  # the clock goes from 02:00 to 03:00
            (date(2013, 3, 11), datetime(2013, 3, 11, 7, tzinfo=UTC)),
            (date(2013, 11, 2), datetime(2013, 11, 2, 7, tzinfo=UTC)),
            (date(2013, 11, 3), datetime(2013, 11, 3, 8, tzinfo=UTC)),  # it goes back at 02:00
        ],
    )
    def test_the_cutoff_is_at_three_in_local_time(self, project: Project, day: date, utc: datetime) -> None:
        assert project.cutoff_at(day) == utc
        assert project.day_of(utc) == day

    def test_a_cutoff_at_a_skipped_or_repeated_local_time(self, project: Project) -> None:
        assert project.at(date(2013, 3, 10), time(2, 30)) == datetime(2013, 3, 10, 7, tzinfo=UTC)  # the change
        assert project.at(date(2013, 11, 3), time(1, 30)) == datetime(2013, 11, 3, 5, 30, tzinfo=UTC)

    @pytest.mark.parametrize(
        ("utc", "day"),
        [
            (datetime(2013, 3, 10, 4, 59, 59, tzinfo=UTC), date(2013, 3, 9)),
            (datetime(2013, 3, 10, 5, tzinfo=UTC), date(2013, 3, 10)),
            (datetime(2013, 3, 11, 3, 59, 59, tzinfo=UTC), date(2013, 3, 10)),  # a day of 23 hours
            (datetime(2013, 3, 11, 4, tzinfo=UTC), date(2013, 3, 11)),
        ],
    )
    def test_a_moment_belongs_to_its_local_day(self, project: Project, utc: datetime, day: date) -> None:
        assert project.day_of(utc) == day

    def test_a_run_date_requires_a_day_of_each_feed(self, project: Project) -> None:
        day = date(2013, 3, 1)
        assert project.required(day) == {"sailings": day, "winds": day, "logbook": date(2013, 2, 28)}

    def test_no_file_is_required_before_the_first_day(self, project: Project) -> None:
        first = project.first_day
        assert project.required(first) == {"sailings": first, "winds": first}
        assert project.required(date(2012, 12, 31)) == {}

    def test_features_read_no_day_after_the_required_one(self, project: Project) -> None:
        day = date(2013, 3, 1)
        logbook = project.feeds["logbook"]
        assert logbook.window(day).end == date(2013, 2, 28)
        assert len(logbook.window(day).days) == 28
        assert project.feeds["sailings"].window(day).days == [day]


def test_the_nearest_name_is_suggested() -> None:
    assert nearest("winda", ["sailings", "winds"]) == "; did you mean 'winds'?"
    assert nearest("x", ["sailings", "winds"]) == "; there is sailings, winds"
    assert nearest("x", []) == "; there is none"


def test_projects_of_a_team_are_found_where_it_removed_all_examples(
    projects: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(projects, FERRIES)
    write(projects, LATE, model="late_ferry")
    monkeypatch.setattr(loading, "PROJECTS", tmp_path / "removed")
    assert (project_names(), model_names()) == (["ferries"], ["late_ferry"])
    assert load_model("late_ferry").project == load_project("ferries").name == "ferries"


def test_what_is_read_ahead_is_not_parsed_again_unless_its_text_changed(
    projects: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(projects, FERRIES)
    broken = write(projects, "feeds: [", model="late_ferry")
    read_ahead()
    monkeypatch.setattr("include.core.yaml_file.YAML", None)
    assert load_project("ferries").title == FERRIES["title"]
    write(projects, changed(FERRIES, "title", "Ships"))
    with pytest.raises(TypeError):
        read_yaml(path)
    with pytest.raises(TypeError):
        read_yaml(broken)


def test_a_folder_that_does_not_exist_is_reported_by_who_needs_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NIGHTLY_PROJECTS", str(tmp_path / "nowhere"))
    read_ahead()
    with pytest.raises(ConfigError, match="nowhere, which is not a folder"):
        project_names()


def test_a_folder_of_projects_that_cannot_be_listed_is_named(projects: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(folder: Path) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr("include.config.loading.os.scandir", denied)
    with pytest.raises(ConfigError, match="projects: cannot be read: Permission denied"):
        load_project("ferries")
