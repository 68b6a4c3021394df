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
from include.gate.checks import GateCheck
from include.gate.checks.base import at_most
from include.gate.evidence import Evidence
from include.training import calibration
from include.training.problem_types import ProblemType, get_problem_type

STEP = Path(__file__).parents[1] / "steps" / "gate.py"


def run_checks(checks: Sequence[GateCheck], evidence: Evidence) -> tuple[Check, ...]:
    """Run each check; without a champion, those against one are left out. A check without a verdict fails."""
    verdicts: list[Check] = []
    for check in checks:
        if evidence.has_champion or not check.needs_champion:
            verdicts += list(check.run(evidence)) or [check.verdict("", None, at_most(0), "nothing:")]
    return tuple(verdicts)


def rules_digest(checks: Sequence[GateCheck], problem_type: str) -> str:
    """Digest of the settings and of the code that decides: a decision by other rules does not promote.

    The code is that of these checks, of the problem type, and of what collects the evidence. Another check, or a
    comment, changes nothing.
    """
    settings = json.dumps(sorted(check.model_dump_json() for check in checks))
    classes = [base for each in (*checks, get_problem_type(problem_type)) for base in type(each).__mro__]
    own = [inspect.getfile(base) for base in classes if issubclass(base, GateCheck | ProblemType)]
    code = code_digest([STEP, Path(__file__), threshold, evidence_module, calibration, *map(Path, dict.fromkeys(own))])
    return hashlib.sha256((settings + code).encode()).hexdigest()
