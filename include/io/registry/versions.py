"""The versions of registered models, which are made once and found again, and their aliases."""

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from include.config.model import Model
from include.core.errors import ActionRequiredError
from include.core.printable import markdown
from include.core.records import GateDecision
from include.io.registry.client import MlflowConnection, strings, write_again
from include.io.registry.models import LoggedModel
from include.io.registry.runs import DIGEST, FitRun

log = logging.getLogger(__name__)

EVALUATED = "evaluated_in_run"
CHAMPION = "champion"
MAX_TAG = 4000  # Databricks allows 4096 bytes


@dataclass(frozen=True)
class Version:
    """A version of a registered model."""

    model: str
    version: int
    run_id: str
    tags: Mapping[str, str]

    @property
    def evaluated(self) -> bool:
        """True if `register` has finished with it; see "Once, without a lock" in the package's docstring."""
        return EVALUATED in self.tags


def register(
    connection: MlflowConnection, model: Model, fit: FitRun, tags: Mapping[str, Any], taken: Mapping[int, str]
) -> Version:
    """Return the version of a fit's logged model, tagged as evaluated; create it when there is none.

    `taken` maps the numbers that were used before to their runs. If the registered model was deleted and made again,
    MLflow counts from 1 again; a number of another run is never used, because its files are others.
    """
    name = connection.registered_name(model.name)
    with connection.reached() as client:
        _ensure_registered(client, name, model)
        while not (found := _free(_versions_of(client, name, fit), taken)):
            created = client.create_model_version(
                name,
                source=f"models:/{fit.model_id}",
                run_id=fit.run_id,
                tags={DIGEST: fit.digest, **strings(tags)},
                model_id=fit.model_id,
            )
            if taken.get(int(created.version), fit.run_id) != fit.run_id:
                log.warning("%s: MLflow made version %s, whose number was used before; it is deleted, and the next "
                            "number is used", model.name, created.version)  # fmt: skip
                client.delete_model_version(name, created.version)
        kept = min(found, key=lambda version: (not version.evaluated, version.version))
        for version in found:
            if version is not kept and not version.evaluated:
                log.info("%s: deleted version %d, a duplicate of version %d", model.name, version.version, kept.version)
                _delete(client, name, version)
        if not kept.evaluated:
            try:
                client.set_model_version_tag(name, str(kept.version), EVALUATED, connection.run_id)
            except MlflowException:  # if two processes set a new tag at once, MLflow refuses the second
                if not _version(client.get_model_version(name, str(kept.version))).evaluated:
                    raise
        return _version(client.get_model_version(name, str(kept.version)))


def get_version(connection: MlflowConnection, model: str, version: int) -> Version:
    """Return a version of a registered model.

    Raises:
        ActionRequiredError: when there is no such version; the message names the newest ones.
    """
    name = connection.registered_name(model)
    with connection.reached() as client:
        try:
            return _version(client.get_model_version(name, str(version)))
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            newest = sorted((int(v.version) for v in _versions(client, name)), reverse=True)[:5]
            there = f"the newest are {', '.join(map(str, newest))}" if newest else "it has none yet, run evaluate first"
            gone = (
                ". If it existed, somebody deleted it in MLflow: restore MLflow's database, or promote another version"
            )
            raise ActionRequiredError(f"{model} has no version {version} in the registry; {there}{gone}") from error


def logged_model(connection: MlflowConnection, version: Version) -> LoggedModel:
    """Return where MLflow has the files of a version."""
    return LoggedModel.of_version(version.model, version.version, connection.registered_name(version.model))


def aliased(connection: MlflowConnection, model: str, alias: str) -> int | None:
    """Return the version that an alias points to, None when it points to none."""
    with connection.reached() as client:
        try:
            return int(client.get_model_version_by_alias(connection.registered_name(model), alias).version)
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            return None


def point(connection: MlflowConnection, model: str, version: int, alias: str) -> None:
    """Make an alias point to a version."""
    name = connection.registered_name(model)
    with connection.reached() as client:
        try:
            client.set_registered_model_alias(name, alias, str(version))
        except MlflowException:  # if two processes set a new alias at once, MLflow refuses the second
            if int(client.get_model_version_by_alias(name, alias).version) != version:
                raise


def tag(connection: MlflowConnection, version: Version, name: str, value: str) -> None:
    """Tag a version, unless it has that tag."""
    if version.tags.get(name) == value:
        return
    of_version = (connection.registered_name(version.model), str(version.version))
    with connection.reached() as client:
        write_again(lambda: client.set_model_version_tag(*of_version, name, value))


def record_gate(connection: MlflowConnection, version: Version, decision: GateDecision) -> None:
    """Record a decision as tags of the version and its run, and the checks as a table of the run."""
    name = connection.registered_name(version.model)
    result = "passed" if decision.passed else f"rejected: {decision.why_not}"
    tags = {"gate": result[:MAX_TAG], "gate_id": decision.gate_id, "gate_champion": str(decision.champion)}
    columns = ("name", "subject", "passed", "measured", "low", "high", "threshold", "sentence")
    table = {
        "columns": list(columns),
        "data": [[getattr(check, column) for column in columns] for check in decision.checks],
    }
    with connection.reached() as client:
        for tag, value in tags.items():
            client.set_model_version_tag(name, str(version.version), tag, value)
            client.set_tag(version.run_id, tag, value)
        connection.upload_text(version.run_id, "gate", f"{decision.gate_id}.json", json.dumps(table, indent=2))


REPORT = "report"
"""The folder of training reports in the artifacts of a run, and the tag of a version that says where its newest is."""


def record_report(
    connection: MlflowConnection, version: Version, gate_id: str, page: str, facts: Mapping[str, Any]
) -> tuple[str, str]:
    """Add a training report to the run of a version; return the id of its experiment and the path of the page."""
    path = f"{REPORT}/{gate_id}.html"
    text = json.dumps(facts, indent=2, sort_keys=True, ensure_ascii=False)
    with connection.reached() as client:
        connection.upload_text(version.run_id, REPORT, f"{gate_id}.json", text)
        experiment_id = connection.upload_text(version.run_id, REPORT, f"{gate_id}.html", page)
        client.set_model_version_tag(connection.registered_name(version.model), str(version.version), REPORT, path)
    return experiment_id, path


def print_report(connection: MlflowConnection, version: Version, make_pdf: Callable[[str], bytes]) -> str | None:
    """Add the newest training report of a version as PDF beside its page; return its path, None without a report."""
    path = version.tags.get(REPORT)
    page = None if path is None else connection.download_text(version.run_id, path)
    if path is None or page is None:
        return None
    name = f"{path.removesuffix('.html').removeprefix(f'{REPORT}/')}.pdf"
    connection.upload_bytes(version.run_id, REPORT, name, make_pdf(page))
    return f"{REPORT}/{name}"


def read_facts(connection: MlflowConnection, version: Version) -> dict[str, Any] | None:
    """Return the facts of the newest training report of a version, None if it has none."""
    path = version.tags.get(REPORT)
    if path is None:
        return None
    text = connection.download_text(version.run_id, f"{path.removesuffix('.html')}.json")
    return None if text is None else dict(json.loads(text))


def _ensure_registered(client: MlflowClient, name: str, model: Model) -> None:
    try:
        client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
    else:
        return
    try:
        client.create_registered_model(name, tags={"project": model.project}, description=markdown(model.title))
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_ALREADY_EXISTS", "ALREADY_EXISTS"):  # another process was first
            raise


def _versions(client: MlflowClient, name: str) -> Iterator[ModelVersion]:
    token = None
    while True:
        page = client.search_model_versions(f"name = '{name}'", page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _versions_of(client: MlflowClient, name: str, fit: FitRun) -> list[Version]:
    """Return the versions of a fit's digest, found by their runs: Unity Catalog cannot search versions by tag."""
    experiment_id = client.get_run(fit.run_id).info.experiment_id
    runs = client.search_runs([experiment_id], filter_string=f"tags.{DIGEST} = '{fit.digest}'")
    of_digest = {run.info.run_id for run in runs}
    found = []
    for listed in _versions(client, name):
        if listed.run_id in of_digest and listed.status == "READY":
            try:
                found.append(_version(client.get_model_version(name, listed.version)))
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":  # deleted since it was listed
                    raise
    return found


def _free(found: list[Version], taken: Mapping[int, str]) -> list[Version]:
    return [version for version in found if taken.get(version.version, version.run_id) == version.run_id]


def _delete(client: MlflowClient, name: str, version: Version) -> None:
    try:
        client.delete_model_version(name, str(version.version))
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":  # another process deleted it
            raise


def _version(found: ModelVersion) -> Version:
    # The model's own name: in Unity Catalog the registered name has catalog and schema in front.
    return Version(
        model=found.name.rpartition(".")[2], version=int(found.version), run_id=str(found.run_id), tags=dict(found.tags)
    )
