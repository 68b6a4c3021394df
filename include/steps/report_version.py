"""report_version: write the training report of a version that the gate has decided on."""

import hashlib
import logging
from datetime import date

from include.config.model import Model
from include.core.errors import DataError
from include.core.interval import Interval
from include.core.records import GateDecision, Reported
from include.core.settings import Settings
from include.io.registry import Registry
from include.io.report_subjects import read_subject
from include.report.page import make_report

log = logging.getLogger(__name__)


def report_version(model: Model, interval: Interval, settings: Settings, *, decision: GateDecision) -> Reported:
    """Write the training report of the version that `decision` is about, as an artifact of its MLflow run.

    Rows and scores are those that the gate saw. The same version and decision give the same bytes, so running the step
    again changes nothing. A version of an entity fraction has no report, as it has no version.

    Raises:
        DataError: the decision has no version, or its holdout rows can no longer be read.
    """
    if decision.model_version is None:
        raise DataError(f"{model.name}: {decision.subject} was not registered, so there is nothing to report on")
    registry = Registry(settings)
    found = registry.get_version(model.name, decision.model_version)
    subject = read_subject(model, interval, settings, registry, found, decision)
    report = make_report(subject)
    experiment_id, path = registry.record_report(found, decision.gate_id, report.html, report.facts)
    log.info("%s %s: training report %s in MLflow run %s", model.name, decision.subject, path, found.run_id)
    return Reported(
        interval=Interval.of(date.fromisoformat(found.tags["day"])),
        rows=subject.holdout_rows.height,
        model_version=found.version,
        model=model.name,
        gate_id=decision.gate_id,
        run_id=found.run_id,
        experiment_id=experiment_id,
        report=path,
        digest=hashlib.sha256(report.html.encode()).hexdigest(),
    )
