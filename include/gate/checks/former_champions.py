"""Is a former champion better than the version on the same days?"""

from collections.abc import Iterator
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from include.core.records import Check
from include.gate.checks.base import GateCheck, at_most, show
from include.gate.evidence import Evidence, FormerChampion
from include.gate.resampling import Between, between, chance_of_excess, holm, ratio_draws

SURE = 0.05


class FormerChampions(GateCheck):
    """The loss against that of the best of the last champions. It keeps out a slow step back, made of many small ones.

    Each new version may be a little worse than its champion, and so may the next one. A former champion that cannot
    score these rows any more is named and left out; the current one cannot be left out.
    """

    needs_champion: ClassVar[bool] = True
    expensive: ClassVar[bool] = True

    kind: Literal["former_champions"] = "former_champions"
    last: int = Field(default=5, ge=2, le=20, description="how many champions, with the current one")
    at_most: float = Field(
        default=0.01, ge=0, description="share by which the loss may be over the best one's; more must be beyond chance"
    )

    def run(self, evidence: Evidence) -> Iterator[Check]:
        """Compare on days that none of them was fitted on."""
        by, limit = evidence.problem_type.chosen_by, at_most(self.at_most)
        if evidence.champion is None or not evidence.comparable or evidence.former_champions is None:
            yield self.verdict(by, None, limit, f"{by} against the last champions", "+.2%")
            return
        former = [*evidence.former_champions(self.last - 1)]
        usable = {evidence.champion.name: evidence.champion.score}
        saw, gone = [evidence.champion_saw], []
        for each in former:
            if each.score is not None and np.isfinite(each.score).all():
                usable[f"former champion {each.version}"] = each.score
                saw.append(each.saw)
            else:
                gone.append(_said(each))
        newest = max((day for day in saw if day is not None), default=None)
        later = evidence.days > np.datetime64(newest) if newest else np.ones(len(evidence.days), dtype=bool)
        about = f"{by} against the last champions ({len(usable)} of the last {self.last})"
        if gone:
            about += f"; left out: {'; '.join(gone)}"
        if not later.any():
            yield self.verdict(by, None, limit, f"{about}: no day that none of them was fitted on", "+.2%")
            return
        name, excess, ends, chance = self._worst(evidence, usable, later)
        excused = f"but so much can be chance (p {show(chance)} by Holm, over {SURE:g})" if chance > SURE else None
        sentence = f"{about}; against {name} on {later.sum():,} rows"
        yield self.verdict(by, excess, limit, sentence, "+.2%", between=ends, excused=excused)

    def _worst(
        self, evidence: Evidence, usable: dict[str, np.ndarray], later: np.ndarray
    ) -> tuple[str, float, Between | None, float]:
        """Return the champion that is surely better or, if none is, the best: name, excess, interval and chance."""
        days, truth, problem = evidence.days[later], evidence.truth[later], evidence.problem_type
        own = problem.loss_by_row(truth, evidence.challenger.score[later])
        count, found = len(np.unique(days)), []
        for name, score in usable.items():
            other = problem.loss_by_row(truth, score[later])
            excess, draws = float(own.mean() / other.mean() - 1.0), ratio_draws(days, own, other, seed=evidence.seed)
            # Of a single day nothing is known about chance: the limit decides alone.
            chance = chance_of_excess(excess, self.at_most, draws, count) if count > 1 else 0.0
            found.append((name, excess, between(draws, days), chance))
        adjusted = holm([each[3] for each in found])
        rated = [(*each[:3], chance) for each, chance in zip(found, adjusted, strict=True)]
        sure = [each for each in rated if each[1] > self.at_most and each[3] <= SURE]
        return max(sure or rated, key=lambda each: each[1])


def _said(former: FormerChampion) -> str:
    return f"version {former.version} ({former.missing or 'it scores rows as NaN or infinite'})"
