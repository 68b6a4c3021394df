"""print_report: write the training report of a version as PDF, beside its page in MLflow.

It is made on demand: paper takes longer than the page, and few versions are printed.
"""

from include.config.model import Model
from include.core.errors import DataError
from include.core.settings import Settings
from include.io.pdf import make_pdf
from include.io.registry import Registry


def print_report(model: Model, version: int, settings: Settings) -> str:
    """Write the PDF and return a sentence that says where it is; doing it again changes nothing.

    Raises:
        DataError: the version has no training report.
        NoPdfError: this machine lacks a library of the system.
    """
    registry = Registry(settings)
    found = registry.get_version(model.name, version)
    path = registry.print_report(found, make_pdf)
    if path is None:
        raise DataError(
            f"{model.name}: version {version} has no training report. Clear the task `report_version` of its training"
        )
    return f"{model.name}, version {version}: runs:/{found.run_id}/{path}"
