"""A model in the notebook: what drives it, is it fair, and what another threshold would cost."""

import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from include.report import measures
from include.report.alternatives import Alternatives, alternatives
from include.report.fairness import SlicesCompared, fairness
from include.report.figures import dependence_figure, importance_figure
from include.report.measures import Importance
from include.report.subject import ReportSubject
from tools.insight import figures, words
from tools.insight.bundle import read_bundle
from tools.insight.shown import Chart, Numbers, Shown, Words

MAX_DEPENDENCES = 3


class ModelInsight:
    """The champion of a model on its holdout days. `subject` has its rows, scores and `predict`, to look further."""

    def __init__(self, subject: ReportSubject) -> None:
        self.subject = subject

    @cached_property
    def importances(self) -> list[Importance]:
        """By how much the loss rises if an input is shuffled, the largest first."""
        return measures.importances(self.subject)

    @cached_property
    def fairness(self) -> SlicesCompared:
        """Each rate in each slice."""
        return fairness(self.subject)

    @cached_property
    def alternatives(self) -> Alternatives | None:
        """What other ways to decide would have cost."""
        return alternatives(self.subject)

    def summary(self) -> Iterator[Shown]:
        """Yield the answers in short, and how good the version is."""
        yield Words(words.about(self.subject))
        answers = [
            ("What drives it.", words.drivers(self.subject, self.importances)),
            ("Is it fair.", words.fair(self.fairness)),
            ("What another threshold would cost.", words.cost(self.alternatives)),
        ]
        yield Words("\n".join(f"- **{head}** {sentence}" for head, sentence in answers))
        own = measures.metrics_with_intervals(self.subject, self.subject.challenger.score)
        dummy = self.subject.problem.metrics(self.subject.truth, self.subject.dummy)
        meanings = self.subject.problem.performance_metrics
        rows = [
            [name, meanings.get(name, ""), words.with_ends(each), words.number(dummy.get(name))]
            for name, each in own.items()
        ]
        head = ("metric", "meaning", "champion", "dummy baseline")
        yield Numbers(head, rows, right=head[2:])

    def what_drives_it(self) -> Iterator[Shown]:
        """Yield importances, and what the version predicts along the strongest inputs."""
        yield Chart(importance_figure(self.subject, self.importances))
        for each in [each.name for each in self.importances if each.mean > 0][:MAX_DEPENDENCES]:
            yield Chart(dependence_figure(self.subject, measures.dependence(self.subject, each)))

    def is_it_fair(self) -> Iterator[Shown]:
        """Yield the differences that chance does not explain, then each rate in each slice."""
        yield Words(words.how_compared(self.fairness))
        if found := self.fairness.beyond_chance:
            yield words.differences(found)
        yield from (Chart(each) for each in figures.rates(self.fairness))

    def another_threshold(self) -> Iterator[Shown]:
        """Yield the cost of each way to decide."""
        found = self.alternatives
        yield Words(words.how_costs(found))
        if found is not None:
            if (figure := figures.cost(found)) is not None:
                yield Chart(figure)
            yield words.ways(found)


def section(model: str) -> ModelInsight:
    """Return the champion of a model, from the folder that `make insight` wrote for this process."""
    return ModelInsight(read_bundle(model, Path(os.environ["INSIGHT_FOLDER"]) / model))
