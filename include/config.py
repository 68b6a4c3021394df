"""What a project and a model declare in YAML, as frozen records. Reads files below `include/projects/`, nothing else.

An unknown key, a wrong type or a name that does not exist is refused with the file, the key and the nearest right one.
"""

import difflib
import hashlib
import json
import re
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, TypeVar
from zoneinfo import ZoneInfo, available_timezones

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from include.contracts import Interval
from include.errors import BadConfig

PROJECTS = Path(__file__).parent / "projects"

ColumnType = Literal["string", "integer", "double", "boolean", "timestamp", "date"]


RESERVED_COLUMNS = frozenset({"day", "delivery_id", "entity_id", "run_day", "_row", "_malformed", "rule", "run_id"})
"""Columns that the pipeline adds: a feed cannot have its own of the same name, whatever the case (Spark's)."""


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:  # of which pydantic explains ValueError only
        close = difflib.get_close_matches(name, available_timezones(), n=1)
        meant = f"did you mean {close[0]!r}?" if close else "write it as 'America/New_York'"
        raise ValueError(f"no timezone {name!r}; {meant}") from error
    return name


Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)]
"""A name that becomes part of table, DAG and view names."""


class Config(BaseModel):
    """Frozen; unknown keys are refused, and so are NaN and infinity, which would hold any gate open."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


C = TypeVar("C", bound=Config)


class Column(Config):
    """A column of a feed. `timestamp` is ISO 8601 with an offset in the file, UTC in tables."""

    type: ColumnType
    data_class: Literal["public", "identifier", "sensitive"] = Field(default="public", alias="class")
    format: str | None = Field(default=None, description="regular expression that an identifier must match in full")
    description: str = ""

    @model_validator(mode="after")
    def _identifiers_are_strings(self) -> Self:
        if self.data_class == "identifier" and self.type != "string":
            raise ValueError("an identifier is hashed, so its type is string")
        if self.format is not None:
            try:
                re.compile(self.format)
            except re.error as error:
                raise ValueError(f"format {self.format!r} is no regular expression: {error}") from error
        return self


class Feed(Config):
    """Files of one kind, one or more a day. Run day D needs the file of day D - lag_days."""

    path: str = Field(description="glob below landing/<project>/ with {day} where the ISO day stands")
    lag_days: int = Field(default=0, ge=0)
    history_days: int = Field(default=0, ge=0, description="how many further days back the features of a day read")
    key: tuple[str, ...] = Field(min_length=1, description="columns that identify a row within a delivery")
    day_column: str = Field(description="the timestamp (or date) whose local date must be the file's day")
    columns: dict[str, Column]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.path.count("{day}") < 1:
            raise ValueError(f"path {self.path!r} has no {{day}}")
        if "{" in self.path.replace("{day}", "") or "}" in self.path.replace("{day}", ""):
            raise ValueError(f"path {self.path!r} has braces other than {{day}}")
        if taken := sorted(name for name in self.columns if name.lower() in RESERVED_COLUMNS):
            raise ValueError(f"column {taken[0]!r}: the pipeline adds a column of that name; rename it in the feed")
        for name in (*self.key, self.day_column):
            if name not in self.columns:
                raise ValueError(f"key or day column {name!r} is not in columns{nearest(name, self.columns)}")
            if self.columns[name].data_class == "sensitive":
                raise ValueError(f"{name!r} is sensitive, and sensitive columns are dropped: it cannot be a key")
        if self.columns[self.day_column].type not in ("timestamp", "date"):
            raise ValueError(f"day_column {self.day_column!r} is neither a timestamp nor a date")
        return self

    @property
    def kept(self) -> dict[str, Column]:
        """The columns that tables keep: all but the sensitive ones."""
        return {name: column for name, column in self.columns.items() if column.data_class != "sensitive"}

    def needed_day(self, run_day: date) -> date:
        """The day of the file that run day D needs."""
        return run_day - timedelta(days=self.lag_days)

    def window(self, run_day: date) -> Interval:
        """The days of this feed that the features of the run day may read."""
        needed = self.needed_day(run_day)
        return Interval(start=needed - timedelta(days=self.history_days), end=needed)


class Entity(Config):
    """What a row is about: its feed, its key (of which `entity_id` is made), and the columns analysts slice by."""

    feed: str
    key: tuple[str, ...] = Field(min_length=1)
    public: tuple[str, ...] = ()


class Outcome(Config):
    """The true result: an SQL expression over a clean feed that both Spark and polars understand."""

    feed: str
    sql: str
    description: str = ""


class Databricks(Config):
    """Where steps run for which `run_on` says databricks: a cluster made for the run, or serverless without one."""

    wheels: str = Field(description="folder that `make deploy TARGET=…` puts wheels in: /Volumes/…, s3://…")
    connection: str = Field(default="databricks_default", description="Airflow connection to the workspace")
    new_cluster: dict[str, Any] | None = Field(default=None, description="as the Jobs API takes it; none: serverless")
    environment: str = Field(default="3", description="client version of the serverless environment")
    settings: dict[str, str] = Field(default_factory=dict, description="fields of Settings that differ there")
    secrets: dict[str, str] = Field(default_factory=dict, description="field of Settings -> scope/key of its secret")
    timeout_minutes: int = Field(default=120, ge=1)


RunOn = Literal["worker", "databricks"]


class Project(Config):
    """`project.yaml`."""

    name: Name
    title: str
    owner: str
    timezone: Annotated[str, AfterValidator(_zone)]
    first_day: date
    schedule: str = Field(default="0 3 * * *", description="cron, in the project's timezone")
    cutoff: time = Field(default=time(3), description="local time on day D up to which its night knows")
    feeds: dict[Name, Feed]
    entity: Entity
    outcomes: dict[Name, Outcome]
    replay: bool = Field(default=False, description="its files are made up by a <project>_replay DAG")
    sample: float = Field(
        default=1, gt=0, le=1, strict=True, description="share of entities to try on; nothing of it goes live"
    )
    run_on: dict[Literal["build_features"], RunOn] = Field(default_factory=dict, description="worker by default")
    databricks: Databricks | None = None

    @model_validator(mode="after")
    def _databricks_is_declared(self) -> Self:
        if "databricks" in self.run_on.values() and self.databricks is None:
            raise ValueError("run_on says databricks, and there is no section `databricks` that says where")
        return self

    @model_validator(mode="after")
    def _names_exist(self) -> Self:
        for where, feed in [
            ("entity", self.entity.feed),
            *((f"outcome {k}", v.feed) for k, v in self.outcomes.items()),
        ]:
            if feed not in self.feeds:
                raise ValueError(f"{where}: no feed {feed!r}{nearest(feed, self.feeds)}")
        for name, outcome in self.outcomes.items():
            if self.feeds[outcome.feed].lag_days < 1:
                raise ValueError(
                    f"outcome {name}: feed {outcome.feed} has lag_days 0: a day cannot know its own outcome"
                )
            if name in self.feeds[outcome.feed].columns:
                raise ValueError(f"outcome {name}: feed {outcome.feed} has a column of that name; rename the outcome")
        columns = self.feeds[self.entity.feed].kept
        for name in (*self.entity.key, *self.entity.public):
            if name not in columns:
                raise ValueError(f"entity: {self.entity.feed} keeps no column {name!r}{nearest(name, columns)}")
        for name in self.entity.public:
            if columns[name].data_class != "public":
                raise ValueError(f"entity: {name!r} is of class {columns[name].data_class}, not public")
        return self

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)

    @property
    def folder(self) -> Path:
        return PROJECTS / self.name

    def day_of(self, moment: datetime) -> date:
        """The project's calendar day of a moment (aware)."""
        return moment.astimezone(self.zone).date()

    def at(self, day: date, local: time) -> datetime:
        """A local wall time on a day, in UTC."""
        return datetime.combine(day, local, self.zone).astimezone(UTC)

    def cutoff_at(self, day: date) -> datetime:
        """The moment, UTC, up to which the night of `day` knows when nothing is late."""
        return self.at(day, self.cutoff)

    def refuse_sample(self, step: str) -> None:
        """For steps that lead to readers. Raises `BadConfig` while the project is tried on a sample."""
        if self.sample < 1:
            raise BadConfig(
                f"{self.folder / 'project.yaml'}: sample: {self.sample:g}: {step} takes all entities, never a sample; "
                "take the key out"
            )

    def required(self, run_day: date) -> dict[str, date]:
        """Feed -> day of the file that the run needs; nothing is required of days before `first_day`."""
        needed = {name: feed.needed_day(run_day) for name, feed in self.feeds.items()}
        return {name: day for name, day in needed.items() if day >= self.first_day}


class Candidate(Config):
    """One way to fit the model: `params` go to `estimator.build`."""

    name: Name
    params: dict[str, Any] = Field(default_factory=dict)


class Bound(Config):
    """What a metric has to reach, or not to pass: one of the two."""

    metric: str
    at_least: float | None = None
    at_most: float | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError(f"{self.metric}: exactly one of at_least and at_most is needed")
        return self

    @property
    def threshold(self) -> float:
        """The number, whichever side it holds."""
        found = self.at_most if self.at_least is None else self.at_least
        assert found is not None
        return found

    def holds(self, value: float) -> bool:
        """False for NaN."""
        return value >= self.threshold if self.at_least is not None else value <= self.threshold


class Group(Config):
    """A slice column that the features do not have: a few labels of one that they do, the others together."""

    of: str = Field(description="feature column")
    values: dict[str, tuple[str, ...]] = Field(min_length=1, description="name of a group -> labels in it")
    otherwise: str = Field(description="name of the group of all other labels")


class Slices(Config):
    """Parts of the rows judged, each by itself: feature columns, or names of `groups`."""

    by: tuple[str, ...] = Field(min_length=1)
    groups: dict[Name, Group] = Field(default_factory=dict)
    min_rows: int = Field(ge=1, description="a smaller slice is not judged by itself")
    not_worse_by: float = Field(description="share by which its loss may be over that of the trivial baseline there")


class Gate(Config):
    """What a version must show on the days judged before it may become champion. Every number here is a decision of
    the model's owner; `docs/concepts.md` says what each check is for. Shares are of 1, so that 0.02 is 2 %."""

    min_rows: int = Field(ge=1, description="rows judged; with fewer nothing is promoted")
    quality: tuple[Bound, ...] = Field(min_length=1, description="absolute, on all rows judged")
    calibration_gap: float = Field(gt=0, description="|mean score - mean outcome| at most; regression: |median error|")
    calibration_error: float | None = Field(
        default=None, gt=0, description="classification: expected calibration error at most, in 10 equal bins"
    )
    better_than_trivial: float = Field(ge=0, description="share by which the loss must be under a constant's")
    linear: str = Field(description="the candidate that is the linear baseline")
    not_worse_than_linear: float = Field(ge=0, description="share by which the loss may be over the linear one's")
    not_worse_than_champion: float = Field(ge=0, description="share that its loss may be over the champion's at worst")
    confidence: float = Field(default=0.95, gt=0.5, lt=1, description="how sure `at worst` is")
    resamples: int = Field(default=1000, ge=100)
    slices: Slices
    changed_decisions: float = Field(gt=0, le=1, description="share of decisions other than the champion's, at most")
    decision_change: float | None = Field(
        default=None, gt=0, description="regression: a difference from the champion over this counts as changed"
    )
    score_shift: float = Field(gt=0, description="mean |difference| of scores from the champion's, at most")
    too_good: Bound = Field(description="what no honest model reaches: beyond it, an input gives the outcome away")
    microseconds_per_row: float = Field(default=200, gt=0, description="to score, at most")
    megabytes: float = Field(default=50, gt=0, description="size of the logged model, at most")
    inputs_may_change: bool = Field(default=False, description="set it in the change that gives the model other inputs")


GATE_METRICS: Final[dict[str, tuple[str, ...]]] = {
    "classification": ("log_loss", "brier", "roc_auc"),
    "regression": ("mae", "rmse", "r2"),
}
"""What the gate can put a bound on; calibration has checks of its own."""


METRICS: Final[dict[str, tuple[str, ...]]] = {
    "classification": (
        "log_loss",
        "brier",
        "roc_auc",
        "base_rate",
        "mean_score",
        "calibration_gap",
        "ece",
        "accuracy",
    ),
    "regression": ("mae", "rmse", "mean_error", "r2"),
}
"""What is measured of published scores each day, by task; `include/monitoring.py` says what each is."""


def _quoted(written: Any) -> Any:
    if isinstance(written, int | float):  # YAML reads 10:30 as 630, and pydantic that as half past midnight or so
        raise ValueError('write the time in quotes, "10:30"')
    return written


class Rule(Bound):
    """Too poor: the metric over all rows breaks its bound on at least `days` of the newest `of` measured days."""

    days: int = Field(ge=1)
    of: int = Field(ge=1)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.days > self.of:
            raise ValueError(f"{self.days} days of the newest {self.of} can never break it; days is at most `of`")
        return self

    @property
    def name(self) -> str:
        """Tells the rules of a model apart, in `alerts`."""
        side = "at_most" if self.at_least is None else "at_least"
        return f"{self.metric} {side} {self.threshold:g}, {self.days} of {self.of} days"


class Monitor(Config):
    """How a model is watched once its scores are published."""

    slices: tuple[str, ...] = Field(default=(), description="public columns of the entity to measure by")
    min_rows: int = Field(default=30, ge=1, description="a slice, and a day of a rule, with fewer rows is left out")
    publish_by: Annotated[time, BeforeValidator(_quoted)] = Field(
        default=time(6), description="local time on day D by which the scores of D must be published"
    )
    rules: tuple[Rule, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.slices)) < len(self.slices):
            raise ValueError("slices: a column stands twice")
        if len({rule.name for rule in self.rules}) < len(self.rules):
            raise ValueError("rules: two are the same")
        return self


class Model(Config):
    """`model.yaml`."""

    name: Name
    title: str
    owner: str
    project: Name
    outcome: str
    task: Literal["classification", "regression"]
    numeric: tuple[str, ...] = Field(description="feature columns that are numbers or booleans")
    categorical: tuple[str, ...] = Field(default=(), description="feature columns that are labels")
    candidates: tuple[Candidate, ...] = Field(min_length=1)
    train_days: int = Field(ge=2, description="labelled days before the run day that a training reads")
    judge_days: int = Field(ge=1, description="the newest of them, held back to judge on")
    min_fit_days: int = Field(default=1, ge=1, description="with fewer labelled days to fit on, training is refused")
    decision_threshold: float = Field(default=0.5, description="classification: predicted 1 from this score on")
    seed: int = 20130101
    run_on: dict[Literal["fit", "score"], RunOn] = Field(default_factory=dict, description="worker by default")
    gate: Gate
    monitor: Monitor = Monitor()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.judge_days >= self.train_days:
            raise ValueError("judge_days must be less than train_days, or nothing is left to fit on")
        if len({c.name for c in self.candidates}) < len(self.candidates):
            raise ValueError("two candidates have the same name")
        for rule in self.monitor.rules:
            if rule.metric not in METRICS[self.task]:
                known = METRICS[self.task]
                raise ValueError(
                    f"monitor.rules: {self.task} has no metric {rule.metric!r}{nearest(rule.metric, known)}"
                )
        return self

    @model_validator(mode="after")
    def _gate_fits(self) -> Self:
        gate, names = self.gate, [c.name for c in self.candidates]
        if gate.linear not in names:
            raise ValueError(f"gate.linear: no candidate {gate.linear!r}{nearest(gate.linear, names)}")
        for bound in (*gate.quality, gate.too_good):
            if bound.metric not in GATE_METRICS[self.task]:
                raise ValueError(f"gate: {self.task} has no metric {bound.metric!r}"
                                 f"{nearest(bound.metric, GATE_METRICS[self.task])}")  # fmt: skip
        for name in [n for n in gate.slices.by if n not in gate.slices.groups]:
            if name not in self.features:
                raise ValueError(f"gate.slices.by: no feature or group {name!r}{nearest(name, self.features)}")
        for name, group in gate.slices.groups.items():
            if group.of not in self.categorical:
                raise ValueError(f"gate.slices.groups.{name}: of: no categorical feature {group.of!r}"
                                 f"{nearest(group.of, self.categorical)}")  # fmt: skip
        needed = {"classification": "calibration_error", "regression": "decision_change"}
        for task, key in needed.items():
            if (getattr(gate, key) is not None) != (self.task == task):
                raise ValueError(
                    f"gate.{key}: {'is needed for' if self.task == task else 'means nothing for'} {self.task}"
                )
        return self

    @property
    def folder(self) -> Path:
        return PROJECTS / self.project / "models" / self.name

    @property
    def features(self) -> tuple[str, ...]:
        """The model's input columns, in the order of its signature."""
        return (*self.numeric, *self.categorical)

    @property
    def digest(self) -> str:
        """Digest of what decides a fit: the declaration, but not how it is judged or watched or where it runs, and the
        estimator."""
        decides = self.model_dump(mode="json", exclude={"gate", "monitor", "run_on"})
        declared = json.dumps(decides, sort_keys=True).encode()
        return hashlib.sha256(declared + (self.folder / "estimator.py").read_bytes()).hexdigest()


@cache
def load_project(name: str) -> Project:
    """Raises `BadConfig` naming the file, the key and the nearest right one."""
    if name not in project_names():
        raise BadConfig(f"no project {name!r} in {PROJECTS}{nearest(name, project_names())}")
    project = _load(Project, PROJECTS / name / "project.yaml", name=name)
    for other in set(project_names()) - {name}:
        shared = sorted(project.feeds.keys() & (read_yaml(PROJECTS / other / "project.yaml").get("feeds") or {}).keys())
        if shared:
            raise BadConfig(
                f"{project.folder / 'project.yaml'}: feeds.{shared[0]}: {other} has a feed of that name, and tables "
                "are named by feeds; rename one"
            )
    return project


@cache
def load_model(name: str) -> Model:
    """A model of any project: model names are unique in the bundle, since tables and DAGs are named by them."""
    paths = sorted(PROJECTS.glob(f"*/models/{name}/model.yaml"))
    if not paths:
        raise BadConfig(f"no model {name!r} in {PROJECTS}{nearest(name, model_names())}")
    if len(paths) > 1:
        raise BadConfig(f"model {name!r} is in two projects: {', '.join(map(str, paths))}; rename one folder")
    path = paths[0]
    model = _load(Model, path, name=name, project=path.parents[2].name)
    project = load_project(model.project)
    if model.outcome not in project.outcomes:
        raise BadConfig(f"{path}: outcome: no outcome {model.outcome!r}{nearest(model.outcome, project.outcomes)}")
    if "databricks" in model.run_on.values() and project.databricks is None:
        raise BadConfig(f"{path}: run_on says databricks, and project.yaml has no section `databricks` that says where")
    _check_monitor(path, project, model)
    return model


def _check_monitor(path: Path, project: Project, model: Model) -> None:
    for column in model.monitor.slices:
        if column not in project.entity.public:
            meant = nearest(column, project.entity.public)
            raise BadConfig(f"{path}: monitor.slices: {project.name} has no public column {column!r}{meant}")
        if column == "all":
            raise BadConfig(f"{path}: monitor.slices: 'all' is what all rows together are called; rename the column")
    if model.monitor.publish_by < project.cutoff:
        raise BadConfig(
            f"{path}: monitor.publish_by: {model.monitor.publish_by:%H:%M} is before the cutoff of {project.name}, "
            f"{project.cutoff:%H:%M}, until which nothing can be scored"
        )


def project_names() -> list[str]:
    """All folders with a project.yaml."""
    return sorted(path.parent.name for path in PROJECTS.glob("*/project.yaml"))


def model_names(project: str | None = None) -> list[str]:
    """Of one project, or of all."""
    return sorted(path.parent.name for path in PROJECTS.glob(f"{project or '*'}/models/*/model.yaml"))


def nearest(word: str, words: Any) -> str:
    """'; did you mean …?' or, when nothing is near, what there is."""
    known = [str(w) for w in words]
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; there is {', '.join(known)}" if known else "; there is none"


class _Loader(yaml.SafeLoader):
    """YAML says that a key stands once; PyYAML lets the last one win, so that a pasted feed would hide another."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key, _ in node.value:
            name = self.construct_object(key, deep=True)
            if name in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {name!r} stands twice", key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that holds a mapping. Raises `BadConfig` naming the file, and the line where there is one."""
    try:
        declared = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506  it is a SafeLoader
    except (OSError, UnicodeDecodeError) as error:
        raise BadConfig(f"{path}: cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise BadConfig(f"{path}: not YAML: {error}") from error
    if not isinstance(declared, dict):
        raise BadConfig(f"{path}: must be a mapping of keys")
    return declared


def _load(kind: type[C], path: Path, **named: str) -> C:
    declared = read_yaml(path)
    if clash := named.keys() & declared.keys():
        raise BadConfig(f"{path}: {', '.join(sorted(clash))}: is the folder's name, and is not written in the file")
    try:
        return kind.model_validate({**declared, **named})
    except ValidationError as error:
        raise BadConfig("\n".join(f"{path}: {_explain(kind, problem)}" for problem in error.errors())) from error


def _explain(kind: type[Config], problem: Any) -> str:
    where = ".".join(str(part) for part in problem["loc"] if part != "[key]")
    if problem["type"] == "extra_forbidden":
        return f"{where}: unknown key{nearest(str(problem['loc'][-1]), _keys_at(kind, problem['loc'][:-1]))}"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{where}: {message}" if where else message


def _keys_at(kind: type[Config], loc: tuple[Any, ...]) -> list[str]:
    """The keys that are right at a place, found by walking the annotations down the path of the error."""
    found: Any = kind
    for part in loc:
        if isinstance(found, type) and issubclass(found, Config):
            field = found.model_fields.get(str(part)) or next(
                (f for f in found.model_fields.values() if f.alias == part), None
            )
            found = field.annotation if field else None
        else:
            found = next(
                (a for a in getattr(found, "__args__", ()) if isinstance(a, type) and issubclass(a, Config)), None
            )
    if found is not None and not (isinstance(found, type) and issubclass(found, Config)):
        found = next((a for a in getattr(found, "__args__", ()) if isinstance(a, type) and issubclass(a, Config)), None)
    return [f.alias or name for name, f in found.model_fields.items()] if found else []
