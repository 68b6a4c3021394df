"""Run the checks of a model's gate, and digest the rules by which they decide."""

import hashlib
import inspect
import json
from collections.abc import Sequence
from pathlib import Path

from include.core import threshold
from include.core.code import code_digest
from include.core.records import Check
from include.gate import evidence as evidence_module
from include.gate import resampling, single_inputs
from include.gate.checks import GateCheck
from include.gate.checks.base import at_most
from include.gate.evidence import Evidence
from include.training import calibration, relative_errors
from include.training.problem_types import ProblemType, get_problem_type

STEPS = Path(__file__).parents[1] / "steps"
COMMON = (
    STEPS / "gate.py",
    STEPS / "gate_probes.py",
    Path(__file__),
    threshold,
    evidence_module,
    resampling,
    single_inputs,
    calibration,
    relative_errors,
)
"""The code that decides for every check."""


def run_checks(checks: Sequence[GateCheck], evidence: Evidence) -> tuple[Check, ...]:
    """Run each check; a check without a verdict fails.

    Without a champion, the checks against one are left out; so are those against earlier outcomes where there are none,
    and those that fit again for a version that was fitted elsewhere. Expensive checks run last, and only for a version
    that passed all others: a version that is rejected anyway needs no second reason.
    """
    verdicts: list[Check] = []
    for check in sorted(checks, key=lambda each: each.expensive):
        if check.expensive and not all(verdict.passed for verdict in verdicts):
            break
        if _applies(check, evidence):
            verdicts += list(check.run(evidence)) or [check.verdict("", None, at_most(0), "nothing:")]
    return tuple(verdicts)


def not_run(checks: Sequence[GateCheck], verdicts: Sequence[Check]) -> list[str]:
    """Return the names of the checks that were not worth their cost, because the version had failed already."""
    seen = {verdict.name for verdict in verdicts}
    failed = not all(verdict.passed for verdict in verdicts)
    return [check.name for check in checks if failed and check.expensive and check.name not in seen]


def _applies(check: GateCheck, evidence: Evidence) -> bool:
    return (
        (evidence.has_champion or not check.needs_champion)
        and (evidence.has_history or not check.needs_history)
        and (not evidence.adopted or not check.needs_refit)
    )


def rules_digest(checks: Sequence[GateCheck], problem_type: str) -> str:
    """Digest of the settings and of the code that decides: a decision by other rules does not promote.

    The code is that of these checks, of the problem type, and of what collects the evidence. Another check, or a
    comment, changes nothing.
    """
    settings = json.dumps(sorted(check.model_dump_json() for check in checks))
    classes = [base for each in (*checks, get_problem_type(problem_type)) for base in type(each).__mro__]
    own = [inspect.getfile(base) for base in classes if issubclass(base, GateCheck | ProblemType)]
    code = code_digest([*COMMON, *map(Path, dict.fromkeys(own))])
    return hashlib.sha256((settings + code).encode()).hexdigest()
