"""What follows from the changes of a branch, in words: effects, costs and commands, as text or Markdown."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from include.config.model import Model
from include.core.changes import Change, Effect
from include.core.printable import markdown
from include.core.project import Project
from include.io.postgres.recorded import Installation, StepCost

CLI = "python -m include.cli"


@dataclass(frozen=True)
class ChangePlan:
    """What the working tree would change.

    Attributes:
        project: as the working tree declares it.
        models: its models.
        against: the ref that was asked for.
        base: the commit that was compared; None without a repository.
        changes: the differences.
        features_digest: what the next prepared day will record.
        installation: what was recorded; None without a database.
        costs: of steps, for each day.
        newest_migration: that of the working tree.
        notes: what the plan could not do.
    """

    project: Project
    models: Mapping[str, Model]
    against: str
    base: str | None
    changes: Sequence[Change]
    features_digest: str
    installation: Installation | None
    costs: Mapping[str, StepCost]
    newest_migration: str
    notes: Sequence[str] = ()

    def has(self, *effects: Effect, model: str | None = None) -> list[Change]:
        """Return the changes of these effects; of a model, if one is named."""
        return [each for each in self.changes if each.effect in effects and (model is None or each.model == model)]

    @property
    def changes_features(self) -> bool:
        """Whether the next prepared day has features that were made otherwise."""
        if self.base is None:
            days = self.installation.days if self.installation else {}
            return any(days[day] is not None for day in self.other_days)
        return bool(self.has(Effect.READING, Effect.FEATURES))

    @property
    def other_days(self) -> list[date]:
        """The prepared days whose features were made otherwise, or of which nobody knows."""
        days = self.installation.days if self.installation else {}
        return [day for day, digest in days.items() if digest != self.features_digest]

    @property
    def is_migration_pending(self) -> bool:
        """Whether the shared database lacks a migration of the working tree."""
        if self.installation is not None:
            return self.installation.revision is None or self.installation.revision < self.newest_migration
        return bool(self.has(Effect.SCHEMA))

    @property
    def has_effect(self) -> bool:
        """Whether anything but words changes."""
        decisive = any(change.effect is not Effect.WORDS for change in self.changes)
        return decisive or self.changes_features or self.is_migration_pending

    def fit_changes(self, model: str) -> list[str]:
        """Return why the next fit of a model is another one, apart from its features."""
        outcome = self.models[model].outcome if model in self.models else ""
        of_outcome = [c for c in self.changes if c.what.startswith((f"outcomes.{outcome}.", "entity_fraction"))]
        decisive = [c for c in of_outcome if c.effect is not Effect.WORDS and not c.what.endswith(": added")]
        return [f"{c.file}: {c.what}" for c in [*self.has(Effect.FIT, model=model), *decisive]]


def effects(plan: ChangePlan) -> list[str]:
    """Return what the changes do, as sentences."""
    if not plan.has_effect:
        what = "Only words change" if plan.changes else "Nothing differs"
        return [f"{what}: nothing is made otherwise, and nothing has to be run.", *_of_features(plan)]
    found = [*_of_schema(plan), *_of_deliveries(plan), *_of_features(plan)]
    for model in plan.models:
        found += _of_model(plan, model)
    if plan.has(Effect.RUNS):
        found.append("Runs: the DAGs start otherwise or elsewhere, or are other ones. No result is made otherwise.")
    if plan.has(Effect.PRODUCT):
        found.append("Other files: no digest covers them, so read in the pull request what they change.")
    return found or ["No result of this project is made otherwise."]


def _of_schema(plan: ChangePlan) -> Iterator[str]:
    if plan.is_migration_pending:
        at = plan.installation.revision if plan.installation else None
        known = f"the shared database is at migration {at}" if at else "the newest one is new"
        yield f"Schema: a migration is pending ({known}; the code needs {plan.newest_migration})."
    if plan.has(Effect.ENTITIES):
        yield "Analysts: the view of the entities has other columns after a migration; published days are not touched."


def _of_deliveries(plan: ChangePlan) -> Iterator[str]:
    if plan.has(Effect.ARRIVAL):
        yield "Landing: it counts for deliveries that are landed from now on. Landed ones stay as they are."
    if plan.has(Effect.EXPECTATIONS):
        yield (
            "Validation: it counts for deliveries that are validated from now on. Earlier ones keep their verdict and "
            "their clean rows until somebody runs revalidate."
        )
    if plan.has(Effect.OUTCOMES):
        yield (
            "Outcomes: true results are recorded as declared now from the next run on. Those that are recorded stay "
            "until somebody runs outcomes for their days."
        )


def _of_features(plan: ChangePlan) -> Iterator[str]:
    days = plan.other_days
    unknown = sum(plan.installation.days[day] is None for day in days) if plan.installation else 0
    before = f" (what made {unknown} of them is not recorded)" if unknown else ""
    if not plan.changes_features:
        if days:
            yield (
                f"Features: this branch does not change them. {_days(days)} were made by other declarations or code "
                f"than those of now{before}."
            )
        return
    yield "Features: run dates that are prepared after the merge have features that are made otherwise."
    if plan.installation is None:
        yield "Prepared days: they keep their features. How many there are is not known without the database."
    elif days:
        yield (
            f"Prepared days: {_days(days)} would be made otherwise{before}. They keep their features until somebody "
            "builds them again."
        )
    if plan.has(Effect.READING):
        yield (
            "Prepared days also keep the deliveries of their records, whatever is built again: only repair gives them "
            "others."
        )
    elif days:
        yield "Building them again needs no repair; a backfill of such a day does it too."


def _of_model(plan: ChangePlan, model: str) -> Iterator[str]:
    version, why = _champion(plan, model), plan.fit_changes(model)
    touched = bool(why) or plan.changes_features
    if any(change.what == "the model is new" for change in plan.has(Effect.FIT, model=model)):
        has = f"Its champion is {version}" if version else "It has no champion until a version passes the gate"
        yield f"{model}: the model is new in this comparison. {has}."
        return
    if plan.changes_features:
        before = ", and days of both kinds until all are built again" if plan.other_days else ""
        why.append(f"it reads other features{before}")
    if why:
        yield (
            f"{model}: the next fit is another one ({'; '.join(why[:3])}{'; …' if len(why) > 3 else ''}). No earlier "
            f"fit is reused, and scores of its versions are not comparable with those of {version or 'earlier ones'}."
        )
    if plan.changes_features and version:
        yield (
            f"{model}: the champion, {version}, was fitted on features as they were made before. It scores those "
            "made otherwise from the next run date on."
        )
    if plan.has(Effect.GATE, model=model):
        fit = "" if touched else ", with no new fit"
        yield (
            f"{model}: the gate decides by other rules{fit}. A decision by earlier rules promotes nothing any more. "
            f"{'The champion, ' + version + ',' if version else 'A champion'} stays until another version passes."
        )
    if plan.has(Effect.MONITORS, model=model):
        fit = "" if touched else " Nothing is fitted or scored again."
        yield f"{model}: the next monitor run measures and raises alerts by other rules.{fit}"
    if touched and plan.installation and (published := plan.installation.published.get(model)):
        versions = ", ".join(map(str, sorted(set(published.values()))))
        yield (
            f"{model}: {_days([*published])} are published (version {versions}). They stay until somebody publishes "
            "others."
        )


def _champion(plan: ChangePlan, model: str) -> str | None:
    found = plan.installation.champions.get(model) if plan.installation else None
    return f"version {found[0]}" if found else None


def _days(days: Sequence[date]) -> str:
    if len(days) == 1:
        return f"1 day ({days[0]})"
    return f"{len(days)} days ({min(days)} to {max(days)})"


def costs(plan: ChangePlan) -> list[str]:
    """Return what the commands and the next fits would cost."""
    found = []
    if plan.changes_features:
        steps = ["build_features"]
        if plan.has(Effect.READING):
            steps = [*(["extract"] if plan.project.sql_feeds else []), "land", "validate", *steps]
        count = len(plan.other_days) if plan.installation else None
        found += [_cost(plan, step, count) for step in steps]
    for model, declared in plan.models.items():
        fits = bool(plan.fit_changes(model)) or plan.changes_features
        if fits:
            found.append(
                _cost(plan, f"{model}.fit", len(declared.candidates), "fits (one a candidate, at each training)")
            )
        if fits or plan.has(Effect.GATE, model=model):
            found.append(_cost(plan, f"{model}.gate", 1, "decision"))
        if plan.changes_features and _published(plan, model):
            found += [_cost(plan, f"{model}.{step}", len(_published(plan, model))) for step in ("score", "publish")]
    return found


def _published(plan: ChangePlan, model: str) -> list[date]:
    return [*plan.installation.published.get(model, {})] if plan.installation else []


def _cost(plan: ChangePlan, step: str, count: int | None, unit: str = "days") -> str:
    cost = plan.costs.get(step)
    if cost is None:
        return f"{step}: unknown: no recorded run"
    basis = f"median of {cost.runs} recorded {'run' if cost.runs == 1 else 'runs'}"
    if count is None:
        return f"{step}: {cost.core_seconds:.1f} core-seconds and {cost.seconds:.1f} s for each day ({basis})"
    return (
        f"{step}: {count} {unit} × {cost.core_seconds:.1f} core-seconds = {_number(count * cost.core_seconds)} "
        f"core-seconds, {_number(count * cost.seconds)} s by the clock ({basis})"
    )


def _number(value: float) -> str:
    return f"{value:.1f}" if value < 10 else f"{value:.0f}"


def commands(plan: ChangePlan) -> list[tuple[str, list[str]]]:
    """Return the commands in order, below what each group is for."""
    found: list[tuple[str, list[str]]] = []
    project = plan.project.name
    if plan.is_migration_pending or plan.has(Effect.ENTITIES):
        found.append(("Before the code is deployed, as the owner of the database", [f"{CLI} migrate"]))
    days = plan.other_days
    first, last = (str(days[0]), str(days[-1])) if days else ("FIRST", "LAST")
    span = f"--project {project} --start {first} --end {last}"
    if plan.has(Effect.EXPECTATIONS):
        found.append(("Only if earlier deliveries are to be validated again", [f"{CLI} revalidate {span}"]))
    if plan.changes_features and (days or plan.installation is None):
        again = []
        if plan.has(Effect.READING):
            takes = [*(["extract"] if plan.project.sql_feeds else []), "land", "validate"]
            again = [f"{CLI} {step} {span}" for step in takes]
            again.append(f"{CLI} repair {span} --by NAME --why REASON")
        found.append((
            "Only if prepared days are to have the new features too",
            [*again, f"{CLI} build_features {span}"],
        ))
    for model in plan.models:
        if plan.changes_features and (published := _published(plan, model)):
            of_model = f"--model {model} --start {min(published)} --end {max(published)}"
            redo = [f"{CLI} score {of_model}", f"{CLI} publish {of_model} --mode replace"]
            found.append((f"Only if published days of {model} are to be replaced, after those", redo))
        if plan.fit_changes(model) or plan.changes_features or plan.has(Effect.GATE, model=model):
            day = max(plan.installation.days) if plan.installation and plan.installation.days else "DAY"
            found.append((
                f"{model}: to train and decide before its next scheduled training",
                [f"{CLI} gate --model {model} --day {day}"],
            ))
    return found


def text(plan: ChangePlan) -> list[str]:
    """Return the plan as lines for a terminal."""
    lines = [_title(plan), "", "Changes"]
    lines += [f"  {change.file}: {change.what} [{change.effect}]" for change in plan.changes] or ["  none"]
    for head, said in (("Effects", effects(plan)), ("Costs", costs(plan)), ("Notes", plan.notes)):
        lines += ["", head, *(f"  {each}" for each in said)] if said else []
    if groups := commands(plan):
        lines += ["", "Commands, in this order"]
        for what, typed in groups:
            lines += [f"  # {what}", *(f"  {each}" for each in typed)]
    return [*lines, "", *_recorded(plan)]


def as_markdown(plan: ChangePlan) -> list[str]:
    """Return the plan as lines of Markdown, for a comment. What comes from files is shown as it is."""
    lines = [f"### {markdown(_title(plan))}", "", *(f"- {markdown(each)}" for each in effects(plan))]
    if plan.changes:
        lines += ["", "| file | change | decides |", "|---|---|---|"]
        lines += [f"| {markdown(c.file)} | {markdown(c.what)} | {c.effect} |" for c in plan.changes]
    for head, said in (("Costs", costs(plan)), ("Notes", plan.notes)):
        lines += ["", f"**{head}**", "", *(f"- {markdown(each)}" for each in said)] if said else []
    if groups := commands(plan):
        lines += ["", "**Commands, in this order**", "", "```bash"]
        for what, typed in groups:
            lines += [f"# {what}", *typed]
        lines.append("```")
    return [*lines, "", *(markdown(each) for each in _recorded(plan))]


def _title(plan: ChangePlan) -> str:
    base = f"{plan.against} ({plan.base[:12]})" if plan.base else "the installation"
    return f"Plan for {plan.project.name}: the working tree against {base}"


def _recorded(plan: ChangePlan) -> Iterable[str]:
    yield f"Prepared days will record the features digest {plan.features_digest}."
    for name, model in plan.models.items():
        yield f"Fits of {name} will record the configuration digest {model.digest}."
