"""Configuration: what is wrong is refused with file, key and the nearest right one; days and cutoffs are exact."""

import copy
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any

import pytest
import yaml

from include.config import loading
from include.config.loading import load_model, load_project, model_names, project_names, read_yaml
from include.config.model import Model
from include.core.errors import ConfigError, nearest
from include.core.project import Project

FLIGHTS = yaml.safe_load((loading.PROJECTS / "flights" / "project.yaml").read_text(encoding="utf-8"))
LATE = yaml.safe_load(
    (loading.PROJECTS / "flights" / "models" / "late_arrival" / "model.yaml").read_text(encoding="utf-8")
)

AUC = {"metric": "roc_auc", "at_least": 0.55, "days": 3, "of": 7}


@pytest.fixture
def projects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of projects with nothing in it."""
    monkeypatch.setattr(loading, "PROJECTS", tmp_path)
    for cached in (load_project, load_model):
        cached.cache_clear()
    yield tmp_path
    monkeypatch.undo()
    for cached in (load_project, load_model):
        cached.cache_clear()


def write(projects: Path, declared: object, name: str = "flights", model: str | None = None) -> Path:
    path = projects / name / ("project.yaml" if model is None else f"models/{model}/model.yaml")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(declared if isinstance(declared, str) else yaml.safe_dump(declared), encoding="utf-8")
    return path


def changed(declared: dict[str, Any], keys: str, value: object) -> dict[str, Any]:
    """The declaration with the key at a path of dots set, or taken away (None)."""
    found = whole = copy.deepcopy(declared)
    *parents, last = keys.split(".")
    for key in parents:
        found = found[key]
    if value is None:
        del found[last]
    else:
        found[last] = value
    return whole


def assert_said(path: Path, said: str, error: ConfigError) -> None:
    """The message begins with the file, and the line unless it is about the whole file."""
    assert re.search(rf"^{re.escape(str(path))}(, line \d+)?: {re.escape(said)}", str(error), re.MULTILINE), str(error)


class TestProject:
    def test_the_sample_project_is_right(self, projects: Path) -> None:
        write(projects, FLIGHTS)
        project = load_project("flights")
        assert (project.name, project.timezone) == ("flights", "America/New_York")
        assert project.folder == projects / "flights"

    @pytest.mark.parametrize(
        ("key", "value", "said"),
        [
            ("tittle", "x", "tittle: unknown key; did you mean 'title'?"),
            ("feeds.schedule.lagdays", 1, "feeds.schedule.lagdays: unknown key; did you mean 'delay_days'?"),
            (
                "feeds.actuals.columns.tailnum.clas",
                "identifier",
                "feeds.actuals.columns.tailnum.clas: unknown key; did you mean 'class'?",
            ),
            ("entity.kee", [], "entity.kee: unknown key; did you mean 'key'?"),
            ("outcomes.late_arrival.sgl", "1", "outcomes.late_arrival.sgl: unknown key; did you mean 'sql'?"),
            ("name", "flights", "name: is the folder's name, and is not written in the file"),
            ("timezone", "America/NewYork", "timezone: no timezone 'America/NewYork'; did you mean 'America/New_York'"),
            ("timezone", "??", "timezone: no timezone '??'; write it as 'America/New_York'"),
            ("timezone", "America", "timezone: no timezone 'America'"),
            ("timezone", "../etc/passwd", "timezone: no timezone '../etc/passwd'"),
            ("first_day", "soon", "first_day: Input should be a valid date"),
            ("cutoff", "25:00", "cutoff: Input should be in a valid time format"),
            ("cutoff", 630, "cutoff: write the time as hours and minutes, 10:30"),
            ("owner", None, "owner: Field required"),
            ("feeds.Schedule", FLIGHTS["feeds"]["schedule"], "feeds.Schedule: String should match pattern"),
            ("feeds.schedule.path", "a/day", "feeds.schedule: path: 'a/day' has no {day}"),
            ("feeds.schedule.path", "{date}/{day}", "feeds.schedule: path: '{date}/{day}' has braces other than {day}"),
            (
                "feeds.schedule.key",
                ["carier"],
                "feeds.schedule: key: 'carier' is not in columns; did you mean 'carrier'?",
            ),
            ("feeds.schedule.day_column", "dest", "feeds.schedule: day_column: 'dest' is neither a timestamp nor a"),
            ("feeds.schedule.key", ["contact_email"], "feeds.schedule: key: 'contact_email' is sensitive"),
            ("feeds.schedule.columns.Day", {"type": "string"}, "feeds.schedule: columns.Day: the pipeline adds"),
            ("feeds.schedule.columns.entity_id", {"type": "string"}, "feeds.schedule: columns.entity_id: the pipe"),
            ("feeds.schedule.columns.dest.type", "text", "feeds.schedule.columns.dest.type: Input should be 'string'"),
            (
                "feeds.actuals.columns.tailnum.type",
                "integer",
                "feeds.actuals.columns.tailnum: type: an identifier is hashed, so its type must be string",
            ),
            (
                "feeds.actuals.columns.tailnum.format",
                "[",
                "feeds.actuals.columns.tailnum: format: '[' is not a regular expression: unterminated character set",
            ),
            ("entity.feed", "schedules", "entity.feed: no feed 'schedules'; did you mean 'schedule'?"),
            ("entity.key", ["contact_email"], "entity.key: schedule keeps no column 'contact_email'; there is carrier"),
            (
                "outcomes.late_arrival.feed",
                "actual",
                "outcomes.late_arrival.feed: no feed 'actual'; did you mean 'actuals'?",
            ),
            ("outcomes.late_arrival.feed", "weather", "outcomes.late_arrival.feed: weather has delay_days 0: a day"),
            ("entity_fraction", True, "entity_fraction: Input should be a valid number"),
            ("entity_fraction", "5 %", "entity_fraction: Input should be a valid number"),
            ("entity_fraction", 0, "entity_fraction: Input should be greater than 0"),
            ("entity_fraction", 1.01, "entity_fraction: Input should be less than or equal to 1"),
            ("entity_fraction", float("nan"), "entity_fraction: Input should be a finite number"),
            (
                "outcomes.dest",
                FLIGHTS["outcomes"]["late_arrival"],
                "outcomes.dest: feed actuals has a column of that name; rename the outcome",
            ),
        ],
    )
    def test_what_is_wrong_is_said_with_file_and_key(self, projects: Path, key: str, value: object, said: str) -> None:
        path = write(projects, changed(FLIGHTS, key, value))
        with pytest.raises(ConfigError) as caught:
            load_project("flights")
        assert_said(path, said, caught.value)

    def test_a_message_names_the_line(self, projects: Path) -> None:
        path = write(projects, yaml.safe_dump(FLIGHTS).replace("delay_days: 1", "delaydays: 1"))
        line = path.read_text(encoding="utf-8").split("delaydays")[0].count("\n") + 1
        with pytest.raises(ConfigError) as caught:
            load_project("flights")
        assert f"{path}, line {line}: feeds.actuals.delaydays: unknown key" in str(caught.value)

    def test_a_time_needs_no_quotes(self, projects: Path) -> None:
        declared = yaml.safe_dump(changed(FLIGHTS, "cutoff", "10:30"))
        write(projects, declared.replace("'10:30'", "10:30"))
        assert load_project("flights").cutoff == time(10, 30)

    @pytest.mark.parametrize(("written", "simulate"), [("true", True), ("yes", True), ("off", False), ("no", False)])
    def test_a_switch_takes_the_words_of_yaml_1_1_too(self, projects: Path, written: str, simulate: bool) -> None:
        declared = yaml.safe_dump(changed(FLIGHTS, "simulate", True))
        write(projects, declared.replace("simulate: true", f"simulate: {written}"))
        assert load_project("flights").simulate is simulate

    def test_all_that_is_wrong_is_said_at_once(self, projects: Path) -> None:
        path = write(projects, changed(changed(FLIGHTS, "tittle", 1), "entity.kee", 1))
        with pytest.raises(ConfigError) as caught:
            load_project("flights")
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
    def test_a_file_that_is_no_mapping(self, projects: Path, text: str, said: str) -> None:
        path = write(projects, text)
        with pytest.raises(ConfigError, match=f"{path}{said}"):
            load_project("flights")

    def test_a_name_that_is_not_there(self, projects: Path) -> None:
        write(projects, FLIGHTS)
        with pytest.raises(ConfigError, match=r"no project 'flight' in .*; did you mean 'flights'\?"):
            load_project("flight")
        with pytest.raises(ConfigError, match="cannot be read"):
            read_yaml(projects / "nowhere.yaml")

    def test_two_projects_cannot_share_a_feed(self, projects: Path) -> None:
        """Tables are named by feeds, so the rows of one would replace those of the other."""
        write(projects, FLIGHTS)
        path = write(projects, FLIGHTS, name="other")
        with pytest.raises(ConfigError, match=rf"{path}, line \d+: feeds.actuals: flights has a feed of that name"):
            load_project("other")

    def test_all_there_are_load(self) -> None:
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
    def flights(self, projects: Path) -> Path:
        write(projects, FLIGHTS)
        return projects

    @pytest.mark.parametrize(
        ("key", "value", "said"),
        [
            ("traindays", 1, "traindays: unknown key; did you mean 'train_days'?"),
            (
                "candidates",
                [{"name": "a", "parms": {}}],
                "candidates.0.parms: unknown key; did you mean 'params'?",
            ),
            ("candidates", [{"name": "a"}, {"name": "a"}], "two candidates have the same name"),
            ("holdout_days", 400, "holdout_days must be less than train_days"),
            ("outcome", "late_arival", "outcome: no outcome 'late_arival'; did you mean 'late_arrival'?"),
            ("gate.resample", 9, "gate.resample: unknown key; did you mean 'resamples'?"),
            ("gate.linear", "linaer", "gate.linear: no candidate 'linaer'; did you mean 'linear'?"),
            (
                "gate.quality",
                [{"metric": "roc_auk", "at_least": 0.6}],
                "gate: binary has no metric 'roc_auk'; did you mean 'roc_auc'?",
            ),
            ("gate.quality", [{"metric": "mae", "at_most": 1}], "gate: binary has no metric 'mae'"),
            ("gate.quality", [], "gate.quality: Tuple should have at least 1 item"),
            ("gate.leakage", {"metric": "roc_auc"}, "gate.leakage: roc_auc: exactly one of at_least and at_most"),
            ("gate.slices.by", ["carier"], "gate.slices.by: no feature or group 'carier'; did you mean 'carrier'?"),
            ("gate.slices.by", [], "gate.slices.by: Tuple should have at least 1 item"),
            (
                "gate.slices.groups",
                {"carrier_size": {"of": "month", "values": {"a": ["1"]}, "otherwise": "b"}},
                "gate.slices.groups.carrier_size: of: no categorical feature 'month'",
            ),
            ("gate.calibration_error", None, "gate.calibration_error: is needed for binary"),
            ("gate.decision_change", 5, "gate.decision_change: means nothing for binary"),
            (
                "gate.not_worse_than_champion",
                float("inf"),
                "gate.not_worse_than_champion: Input should be a finite number",
            ),
            ("gate.slices.not_worse_by", float("nan"), "gate.slices.not_worse_by: Input should be a finite number"),
            ("gate.min_rows", 0, "gate.min_rows: Input should be greater than or equal to 1"),
            ("monitor.slice", [], "monitor.slice: unknown key; did you mean 'slices'?"),
            (
                "monitor.slices",
                ["carier"],
                "monitor.slices: flights has no public column 'carier'; did you mean 'carrier'?",
            ),
            ("monitor.slices", ["origin", "origin"], "monitor: slices: a column stands twice"),
            ("monitor.publish_by", "02:59", "monitor.publish_by: 02:59 is before the cutoff of flights, 03:00"),
            ("monitor.publish_by", 630, 'monitor.publish_by: write the time in quotes, "10:30"'),
            ("monitor.min_rows", 0, "monitor.min_rows: Input should be greater than or equal to 1"),
            ("monitor.rules", [{**AUC, "metrik": 1}], "monitor.rules.0.metrik: unknown key; did you mean 'metric'?"),
            (
                "monitor.rules",
                [{**AUC, "metric": "roc_acu"}],
                "monitor.rules: binary has no metric 'roc_acu'; did you mean 'roc_auc'?",
            ),
            (
                "monitor.rules",
                [{**AUC, "metric": "mae"}],
                "monitor.rules: binary has no metric 'mae'; there is log_loss, brier",
            ),
            (
                "monitor.rules",
                [{**AUC, "at_most": 1}],
                "monitor.rules.0: roc_auc: exactly one of at_least and at_most is needed",
            ),
            (
                "monitor.rules",
                [{"metric": "roc_auc", "days": 1, "of": 1}],
                "monitor.rules.0: roc_auc: exactly one of at_least and at_most is needed",
            ),
            ("monitor.rules", [{**AUC, "days": 8}], "monitor.rules.0: 8 days of the newest 7 can never break it"),
            (
                "monitor.rules",
                [{**AUC, "at_least": float("nan")}],
                "monitor.rules.0.at_least: Input should be a finite",
            ),
            ("monitor.rules", [AUC, AUC], "monitor: rules: two are the same"),
        ],
    )
    def test_what_is_wrong(self, flights: Path, key: str, value: object, said: str) -> None:
        path = write(flights, changed(LATE, key, value), model="late_arrival")
        with pytest.raises(ConfigError) as caught:
            load_model("late_arrival")
        assert_said(path, said, caught.value)

    def test_a_name_that_is_not_there(self, flights: Path) -> None:
        write(flights, LATE, model="late_arrival")
        with pytest.raises(ConfigError, match=r"no model 'late_arival' in .*; did you mean 'late_arrival'\?"):
            load_model("late_arival")

    def test_of_two_projects(self, flights: Path) -> None:
        for project in ("flights", "other"):
            write(flights, LATE, name=project, model="late_arrival")
        with pytest.raises(ConfigError, match=r"is in two folders: .*; rename one folder"):
            load_model("late_arrival")

    def test_the_digest_follows_declaration_and_code(self, flights: Path) -> None:
        path = write(flights, LATE, model="late_arrival")
        code = path.with_name("estimator.py")

        def digest(declared: dict[str, Any], text: str) -> str:
            write(flights, declared, model="late_arrival")
            code.write_text(text, encoding="utf-8")
            load_model.cache_clear()
            model: Model = load_model("late_arrival")
            return model.digest

        assert digest(LATE, "a") == digest(LATE, "a")
        others = {digest(LATE, "b"), digest(changed(LATE, "seed", 7), "a"), digest(LATE, "a")}
        assert len(others) == 3

    def test_what_the_gate_asks_decides_no_fit(self, flights: Path) -> None:
        path = write(flights, LATE, model="late_arrival")
        path.with_name("estimator.py").write_text("", encoding="utf-8")
        before = load_model("late_arrival")
        load_model.cache_clear()
        write(flights, changed(LATE, "gate.min_rows", 7), model="late_arrival")
        after: Model = load_model("late_arrival")
        assert (after.gate.min_rows, after.digest) == (7, before.digest)

    def test_how_a_model_is_watched_decides_no_fit(self, flights: Path) -> None:
        path = write(flights, LATE, model="late_arrival")
        path.with_name("estimator.py").write_text("", encoding="utf-8")
        before = load_model("late_arrival")
        load_model.cache_clear()
        write(flights, changed(LATE, "monitor", None), model="late_arrival")  # it is optional
        after = load_model("late_arrival")
        assert before.digest == after.digest
        assert before.monitor.rules and after.monitor.rules == ()
        assert after.monitor.publish_by == time(6)


class TestTime:
    @pytest.fixture
    def project(self) -> Project:
        return load_project("flights")

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
    def test_the_cutoff_is_at_three_by_the_wall_clock(self, project: Project, day: date, utc: datetime) -> None:
        assert project.cutoff_at(day) == utc
        assert project.day_of(utc) == day

    def test_a_skipped_and_a_doubled_time(self, project: Project) -> None:
        assert project.at(date(2013, 3, 10), time(2, 30)) == datetime(2013, 3, 10, 7, 30, tzinfo=UTC)
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
    def test_the_day_of_a_moment(self, project: Project, utc: datetime, day: date) -> None:
        assert project.day_of(utc) == day

    def test_what_a_run_needs(self, project: Project) -> None:
        day = date(2013, 3, 1)
        assert project.required(day) == {"schedule": day, "weather": day, "actuals": date(2013, 2, 28)}

    def test_nothing_is_needed_of_days_before_the_first(self, project: Project) -> None:
        first = project.first_day
        assert project.required(first) == {"schedule": first, "weather": first}
        assert project.required(date(2012, 12, 31)) == {}

    def test_what_features_may_read_ends_with_what_the_run_needs(self, project: Project) -> None:
        day = date(2013, 3, 1)
        actuals = project.feeds["actuals"]
        assert actuals.window(day).end == date(2013, 2, 28)
        assert len(actuals.window(day).days) == 28
        assert project.feeds["schedule"].window(day).days == [day]


def test_nearest() -> None:
    assert nearest("weathr", ["schedule", "weather"]) == "; did you mean 'weather'?"
    assert nearest("x", ["schedule", "weather"]) == "; there is schedule, weather"
    assert nearest("x", []) == "; there is none"
