"""What changed in code, configuration, data and libraries against the champion, and how to make the version again."""

from dataclasses import dataclass

from include.report.subject import ReportedVersion, ReportSubject

TAGS = (
    ("Code", "commit", "git_commit"),
    ("Configuration", "digest of model.yaml and estimator.py", "config_digest"),
    ("Configuration", "candidate", "candidate"),
    ("Data", "run date", "day"),
    ("Data", "known up to", "as_of"),
    ("Data", "first labelled day", "interval_start"),
    ("Data", "last day fitted on", "fit_end"),
    ("Data", "last labelled day", "interval_end"),
    ("Data", "journal up to entry", "watermark"),
    ("Data", "version of the features' table", "features_version"),
    ("Data", "version of the outcomes' table", "outcome_version"),
    ("Data", "digest of the rows", "data_digest"),
    ("Libraries", "digest of requirements.txt and Python", "lock_digest"),
)
"""What a fit says of itself: the kind, its name for people, the tag of its MLflow run."""


@dataclass(frozen=True)
class Origin:
    """A fact about where the version came from, and the champion's."""

    kind: str
    what: str
    version: str
    champion: str | None

    @property
    def changed(self) -> bool:
        """Whether the champion differs."""
        return self.champion is not None and self.champion != self.version


def origins(subject: ReportSubject) -> list[Origin]:
    """Return what a fit depends on, for the version and the champion side by side."""
    own, champion = subject.challenger, subject.to_beat
    found = [
        Origin(
            kind,
            what,
            _short(own.tags.get(tag, "unknown")),
            _short(champion.tags.get(tag, "unknown")) if champion else None,
        )
        for kind, what, tag in TAGS
        if tag in own.tags or (champion and tag in champion.tags)
    ]
    if champion:
        added, removed = (
            [name for name in one.inputs if name not in other.inputs]
            for one, other in ((own, champion), (champion, own))
        )
        found.append(
            Origin(
                "Configuration",
                "inputs",
                f"{len(own.inputs)}{': with ' + ', '.join(added) if added else ''}",
                f"{len(champion.inputs)}{': with ' + ', '.join(removed) if removed else ''}",
            )
        )
    libraries = sorted(own.libraries.keys() | (champion.libraries.keys() if champion else set()))
    found += [
        Origin("Libraries", name, _library(own, name), _library(champion, name) if champion else None)
        for name in libraries
    ]
    order = ("Code", "Configuration", "Data", "Libraries")
    return sorted(found, key=lambda each: order.index(each.kind))


def commands(subject: ReportSubject) -> list[tuple[str, str]]:
    """Return what to type to make the version again, each with what it does."""
    model, tags, version = subject.model.name, subject.challenger.tags, subject.challenger.version
    commit, day = tags.get("git_commit", "unknown"), tags.get("day", str(subject.decision.interval.end))
    cli = "python -m include.cli"
    if not subject.fitted_here:
        return [
            (
                "Compare its files and scores with those of its adoption",
                f"{cli} reproduce --model {model} --version {version}",
            ),
            ("Decide again", f"{cli} gate --model {model} --day {day} --version {version}"),
        ]
    checkout = [] if commit == "unknown" else [("The code of the fit", f"git checkout {commit} && make setup")]
    return [
        *checkout,
        ("Fit it again and compare all scores; writes nothing", f"{cli} reproduce --model {model} --version {version}"),
        ("Fit, compare and decide again", f"{cli} gate --model {model} --day {day}"),
    ]


def _library(version: ReportedVersion, name: str) -> str:
    return version.libraries.get(name, "none")


def _short(text: str) -> str:
    """Return a digest by its first characters, another text as it is."""
    return text[:12] if len(text) == 64 and all(c in "0123456789abcdef" for c in text) else text
