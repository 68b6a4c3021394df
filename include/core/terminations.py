"""Why a run on Databricks ended, by the codes of its answer, and what a person does about it.

The Jobs API 2.1 and 2.2 say it in `status.termination_details` of the run and of each of its tasks, and of a cluster in
the platform's own message (`Reason: SPOT_INSTANCE_TERMINATION (CLOUD_FAILURE)`). Words of other messages never decide:
they can come from the code that ran. Older answers have only `state`. The codes are those of the SDK that
requirements.txt locks; `tests/unit/core/test_terminations.py` notices new ones.
"""

import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

Cause = Literal["cluster", "quota", "platform", "configuration", "code", "timeout", "cancelled"]

HELPED_BY_RETRY: frozenset[Cause] = frozenset({"cluster", "quota", "platform"})


class Meaning(NamedTuple):
    """What a code means. `by_type`: the type decides whether the platform is at fault or we are, if there is one."""

    cause: Cause
    advice: str
    by_type: bool = False


class RunEnd(NamedTuple):
    """Why a run ended. `said`: the code and type of Databricks' answer, empty if it has none."""

    cause: Cause
    said: str
    advice: str


STATUS_PAGE = "Look at https://status.databricks.com; if it goes on, ask Databricks' support."
LIMITS = "Spread runs over more time, or ask an administrator of the workspace for a higher limit."

CODES: dict[str, Meaning] = {
    "BREAKING_CHANGE": Meaning("platform", "Databricks runs it again with other settings; look at its Spark version."),
    "BUDGET_POLICY_LIMIT_EXCEEDED": Meaning("configuration", "The budget of the policy is spent: have it raised."),
    "CANCELED": Meaning("cancelled", "Databricks cancelled it. When the reason is gone, clear the task."),
    "CLOUD_FAILURE": Meaning("platform", "Look at the status page of your cloud."),
    "CLUSTER_ERROR": Meaning(
        "cluster", "Look at the cluster's event log, which the page of the run links to.", by_type=True
    ),
    "CLUSTER_REQUEST_LIMIT_EXCEEDED": Meaning("quota", LIMITS),
    "CLUSTER_TERMINATED_BY_USER": Meaning("cluster", "Somebody ended or restarted the cluster: ask who and why."),
    "DISABLED": Meaning("cancelled", "Somebody disabled the task: ask who, then clear the task."),
    "DRIVER_ERROR": Meaning("cluster", "If it happens again, give the driver more memory.", by_type=True),
    "FEATURE_DISABLED": Meaning("configuration", "Have the feature enabled in the workspace, or do without it."),
    "INTERNAL_ERROR": Meaning("platform", STATUS_PAGE, by_type=True),
    "INVALID_CLUSTER_REQUEST": Meaning("configuration", "Correct databricks.new_cluster in project.yaml."),
    "INVALID_RUN_CONFIGURATION": Meaning("configuration", "Correct the section databricks of project.yaml."),
    "LIBRARY_INSTALLATION_ERROR": Meaning(
        "configuration", "Look whether the wheel is there and can be read by the run's owner.", by_type=True
    ),
    "MAX_CONCURRENT_RUNS_EXCEEDED": Meaning("quota", LIMITS),
    "MAX_JOB_QUEUE_SIZE_EXCEEDED": Meaning("quota", LIMITS),
    "MAX_SPARK_CONTEXTS_EXCEEDED": Meaning("quota", "The cluster is full: give the product one of its own."),
    "REPOSITORY_CHECKOUT_FAILED": Meaning("platform", "The git service did not answer.", by_type=True),
    "RESOURCE_NOT_FOUND": Meaning("configuration", "Make what the message names, or correct its name in project.yaml."),
    "RUN_EXECUTION_ERROR": Meaning("code", "The error and the end of its trace are in the task's log."),
    "SKIPPED": Meaning("configuration", "It never ran: look at the page of the run."),
    "STORAGE_ACCESS_ERROR": Meaning("platform", "Look whether the workspace can reach its storage.", by_type=True),
    "SUCCESS_WITH_FAILURES": Meaning("code", "A part of it failed: look at the page of the run."),
    "UNAUTHORIZED_ERROR": Meaning("configuration", "Give the run's owner the right that the message names."),
    "USER_CANCELED": Meaning("cancelled", "Somebody cancelled it: ask who, then clear the task."),
    "WORKSPACE_RUN_LIMIT_EXCEEDED": Meaning("quota", LIMITS),
}
"""The codes of `termination_details` with which a run can fail."""

TYPES: dict[str, Meaning] = {
    "CLIENT_ERROR": Meaning("configuration", "Databricks blames the job or its input: another run would fail too."),
    "CLOUD_FAILURE": Meaning("platform", "Look at the status page of your cloud."),
    "INTERNAL_ERROR": Meaning("platform", STATUS_PAGE),
    "SERVICE_FAULT": Meaning("platform", STATUS_PAGE),  # of clusters
}
"""What a type means of a code that is unknown, or that leaves it open."""

OF_CAPACITY = frozenset({
    *("AWS_INSUFFICIENT_FREE_ADDRESSES_IN_SUBNET_FAILURE", "AWS_INSUFFICIENT_INSTANCE_CAPACITY_FAILURE"),
    *("AWS_MAX_SPOT_INSTANCE_COUNT_EXCEEDED_FAILURE", "AWS_REQUEST_LIMIT_EXCEEDED", "AWS_RESOURCE_QUOTA_EXCEEDED"),
    *("AZURE_QUOTA_EXCEEDED_EXCEPTION", "AZURE_RESOURCE_MANAGER_THROTTLING", "AZURE_RESOURCE_PROVIDER_THROTTLING"),
    *("CLOUD_ACCOUNT_POD_QUOTA_EXCEEDED", "CLOUD_PROVIDER_RESOURCE_STOCKOUT", "CLUSTER_OPERATION_THROTTLED"),
    *("GCP_API_RATE_QUOTA_EXCEEDED", "GCP_INSUFFICIENT_CAPACITY", "GCP_IP_SPACE_EXHAUSTED", "GCP_QUOTA_EXCEEDED"),
    *("GCP_RESOURCE_QUOTA_EXCEEDED", "INSTANCE_POOL_MAX_CAPACITY_REACHED", "INTERNAL_CAPACITY_FAILURE"),
    *("IP_EXHAUSTION_FAILURE", "K8S_ACTIVE_POD_QUOTA_EXCEEDED", "RATE_LIMITED", "REQUEST_THROTTLED"),
    *("SPARK_IMAGE_DOWNLOAD_THROTTLED", "STORAGE_DOWNLOAD_FAILURE_THROTTLED", "SUBNET_EXHAUSTED_FAILURE"),
})
"""The codes of clusters for which the cloud had no room, whatever their type: Azure's are client errors."""

CAPACITY = "The cloud had no room or no quota: use another kind of machine, or have the quota raised."

OF_CLUSTER = re.compile(r"\bReason: ([A-Z][A-Z0-9_]+) \((CLIENT_ERROR|CLOUD_FAILURE|SERVICE_FAULT|SUCCESS)\)")
"""How the platform's message names the end of a cluster."""

RESULTS: dict[str, Cause] = {
    "CANCELED": "cancelled",
    "DISABLED": "cancelled",
    "MAXIMUM_CONCURRENT_RUNS_REACHED": "quota",
    "UPSTREAM_CANCELED": "cancelled",
}
"""The results of answers without a code; any other is of the code, unless the platform itself failed."""


def explain_end(run: Mapping[str, Any]) -> RunEnd:
    """Return why a run failed.

    Args:
        run: the answer of `runs/get`; of a run whose answer cannot be read, at least its `state`.
    """
    failed = _failed_task(run)
    state = {**run.get("state", {}), **{k: v for k, v in failed.get("state", {}).items() if v}}
    if "TIMEDOUT" in (state.get("result_state"), run.get("state", {}).get("result_state")):
        return RunEnd("timeout", "", "It took longer than databricks.timeout_minutes of project.yaml.")
    for part in (failed, run):  # the run itself may say no more than that a task failed
        details = part.get("status", {}).get("termination_details") or {}
        if (code := details.get("code")) and code != "SUCCESS":
            message = f"{details.get('message', '')}\n{part.get('state', {}).get('state_message', '')}"
            return _of_code(code, str(details.get("type") or ""), message, state)
    return _of_state(state)


def _failed_task(run: Mapping[str, Any]) -> Mapping[str, Any]:
    for task in run.get("tasks", []):
        if task.get("state", {}).get("result_state") != "SUCCESS":
            found: Mapping[str, Any] = task
            return found
    return {}


def _of_code(code: str, kind: str, message: str, state: Mapping[str, Any]) -> RunEnd:
    said = f"{code} ({kind})" if kind else code
    known = CODES.get(code)
    if known is None:
        found = TYPES.get(kind) or Meaning(_of_state(state).cause, "Look at the page of the run.")
        return RunEnd(found.cause, said, f"This version does not know that code. {found.advice}")
    if code in ("CLUSTER_ERROR", "INTERNAL_ERROR") and (end := _of_cluster(message)):
        return end._replace(said=f"{said}, {end.said}")
    if known.by_type and kind in TYPES and (TYPES[kind].cause in HELPED_BY_RETRY) != (known.cause in HELPED_BY_RETRY):
        return RunEnd(TYPES[kind].cause, said, known.advice)
    return RunEnd(known.cause, said, known.advice)


def _of_cluster(message: str) -> RunEnd | None:
    """Return why a cluster ended, if the platform's message says so."""
    found = OF_CLUSTER.search(message)
    if found is None:
        return None
    code, kind = found.groups()
    said = f"{code} ({kind})"
    if code in OF_CAPACITY:
        return RunEnd("quota", said, CAPACITY)
    if kind == "CLIENT_ERROR":
        return RunEnd(
            "configuration", said, "Correct databricks.new_cluster in project.yaml, or what the message names."
        )
    return RunEnd("cluster", said, CODES["CLUSTER_ERROR"].advice)


def _of_state(state: Mapping[str, Any]) -> RunEnd:
    """Return why a run failed whose answer has no code."""
    result = state.get("result_state") or ""
    if state.get("life_cycle_state") == "INTERNAL_ERROR":
        message = str(state.get("state_message") or "")
        return _of_cluster(message) or RunEnd("platform", "", STATUS_PAGE)
    return RunEnd(RESULTS.get(result, "code"), "", "Look at the page of the run.")
