"""Each code with which Databricks ends a run has a class; no word that the code itself can write decides."""

from typing import Any

import pytest
from databricks.sdk.service.compute import TerminationReasonCode, TerminationReasonType
from databricks.sdk.service.jobs import RunResultState, TerminationCodeCode, TerminationTypeType

from include.core.terminations import CODES, HELPED_BY_RETRY, OF_CAPACITY, RESULTS, TYPES, explain_end


def answer(
    code: str | None = None,
    kind: str | None = None,
    *,
    result: str = "FAILED",
    life_cycle: str = "TERMINATED",
    message: str = "",
    of_run: str | None = None,
) -> dict[str, Any]:
    """Return an answer of `runs/get` with a failed task; `of_run` is the code of the run itself, the task's if None."""
    state = {"life_cycle_state": life_cycle, "result_state": result, "state_message": message}

    def part(found: str | None) -> dict[str, Any]:
        details = {"code": found, "type": kind, "message": message}
        return {"state": state, **({"status": {"termination_details": details}} if found else {})}

    return {**part(of_run or code), "tasks": [{"task_key": "step", **part(code)}]}


def test_every_code_of_the_sdk_has_a_class_and_an_advice() -> None:
    """A new one in the lock: read what it means in `TerminationCodeCode`, and add it to CODES."""
    only_in_its_text = {"CLUSTER_TERMINATED_BY_USER"}
    assert CODES.keys() == {code.value for code in TerminationCodeCode} - {"SUCCESS"} | only_in_its_text
    assert TYPES.keys() == {t.value for kind in (TerminationTypeType, TerminationReasonType) for t in kind} - {
        "SUCCESS"
    }
    assert {code.value for code in TerminationReasonCode} >= OF_CAPACITY
    assert {result.value for result in RunResultState} >= RESULTS.keys()
    assert all(known.advice.endswith(".") for known in CODES.values())


RETRIED = {
    "BREAKING_CHANGE",
    "CLOUD_FAILURE",
    "CLUSTER_ERROR",
    "CLUSTER_REQUEST_LIMIT_EXCEEDED",
    "CLUSTER_TERMINATED_BY_USER",
    "DRIVER_ERROR",
    "INTERNAL_ERROR",
    "MAX_CONCURRENT_RUNS_EXCEEDED",
    "MAX_JOB_QUEUE_SIZE_EXCEEDED",
    "MAX_SPARK_CONTEXTS_EXCEEDED",
    "REPOSITORY_CHECKOUT_FAILED",
    "STORAGE_ACCESS_ERROR",
    "WORKSPACE_RUN_LIMIT_EXCEEDED",
}


@pytest.mark.parametrize("code", CODES)
def test_a_code_decides_whether_another_run_may_help(code: str) -> None:
    end = explain_end(answer(code, result="FAILED"))
    assert (end.cause in HELPED_BY_RETRY) == (code in RETRIED)
    assert (end.said, end.advice) == (code, CODES[code].advice)


@pytest.mark.parametrize(
    ("code", "kind", "cause"),
    [
        ("CLUSTER_ERROR", "CLOUD_FAILURE", "cluster"),
        ("CLUSTER_ERROR", "CLIENT_ERROR", "configuration"),
        ("DRIVER_ERROR", "INTERNAL_ERROR", "cluster"),
        ("DRIVER_ERROR", "CLIENT_ERROR", "configuration"),
        ("INTERNAL_ERROR", "CLIENT_ERROR", "configuration"),
        ("STORAGE_ACCESS_ERROR", "CLIENT_ERROR", "configuration"),
        ("STORAGE_ACCESS_ERROR", "CLOUD_FAILURE", "platform"),
        ("LIBRARY_INSTALLATION_ERROR", "CLIENT_ERROR", "configuration"),
        ("LIBRARY_INSTALLATION_ERROR", "CLOUD_FAILURE", "platform"),
        # of these, the code alone decides
        ("RUN_EXECUTION_ERROR", "INTERNAL_ERROR", "code"),
        ("WORKSPACE_RUN_LIMIT_EXCEEDED", "CLIENT_ERROR", "quota"),
        ("MAX_SPARK_CONTEXTS_EXCEEDED", "CLIENT_ERROR", "quota"),
        ("UNAUTHORIZED_ERROR", "INTERNAL_ERROR", "configuration"),
        ("USER_CANCELED", "CLIENT_ERROR", "cancelled"),
    ],
)
def test_the_type_decides_where_the_code_leaves_it_open(code: str, kind: str, cause: str) -> None:
    end = explain_end(answer(code, kind))
    assert (end.cause, end.said) == (cause, f"{code} ({kind})")


@pytest.mark.parametrize(
    ("kind", "life_cycle", "cause"),
    [
        ("CLIENT_ERROR", "TERMINATED", "configuration"),
        ("CLOUD_FAILURE", "TERMINATED", "platform"),
        ("INTERNAL_ERROR", "TERMINATED", "platform"),
        ("OF_TOMORROW", "TERMINATED", "code"),
        (None, "INTERNAL_ERROR", "platform"),
    ],
)
def test_an_unknown_code_is_named_and_its_type_decides(kind: str | None, life_cycle: str, cause: str) -> None:
    end = explain_end(answer("FLOODED", kind, life_cycle=life_cycle))
    assert (end.cause, end.said) == (cause, f"FLOODED ({kind})" if kind else "FLOODED")
    assert end.advice.startswith("This version does not know that code.")


WORDS = (
    "isinstance() arg 2 must be a type",
    "ValueError: limit exceeded in the cluster of stores; quota, insufficient stock, driver, vm ",
    "RecursionError: recursion limit exceeded. Reason: SPOT_INSTANCE_TERMINATION (CLOUD_FAILURE)",
)


@pytest.mark.parametrize("message", WORDS)
@pytest.mark.parametrize("code", ["RUN_EXECUTION_ERROR", None], ids=["with a code", "an old answer"])
def test_no_word_of_an_error_makes_it_a_failure_of_the_platform(message: str, code: str | None) -> None:
    assert explain_end(answer(code, "CLIENT_ERROR", message=message)).cause == "code"


def test_the_task_says_more_than_its_run() -> None:
    end = explain_end(answer("CLUSTER_ERROR", "CLOUD_FAILURE", of_run="RUN_EXECUTION_ERROR"))
    assert (end.cause, end.said) == ("cluster", "CLUSTER_ERROR (CLOUD_FAILURE)")
    of_run_alone = answer(None, "INTERNAL_ERROR", of_run="DRIVER_ERROR")
    assert explain_end(of_run_alone).said == "DRIVER_ERROR (INTERNAL_ERROR)"


@pytest.mark.parametrize(
    ("reason", "cause"),
    [
        ("SPOT_INSTANCE_TERMINATION (CLOUD_FAILURE)", "cluster"),
        ("COMMUNICATION_LOST (SERVICE_FAULT)", "cluster"),
        ("AZURE_QUOTA_EXCEEDED_EXCEPTION (CLIENT_ERROR)", "quota"),
        ("CLOUD_PROVIDER_RESOURCE_STOCKOUT (CLOUD_FAILURE)", "quota"),
        ("INIT_SCRIPT_FAILURE (CLIENT_ERROR)", "configuration"),
        ("BUDGET_POLICY_LIMIT_ENFORCEMENT_ACTIVATED (CLIENT_ERROR)", "configuration"),
        ("EATEN_BY_A_SHARK (CLOUD_FAILURE)", "cluster"),
    ],
)
@pytest.mark.parametrize("code", ["CLUSTER_ERROR", None], ids=["with a code", "an old answer"])
def test_the_reason_of_a_cluster_decides(reason: str, cause: str, code: str | None) -> None:
    message = f"Cluster '1129-081500-abc' was terminated. Reason: {reason}. Parameters: instance_id: i-0"
    end = explain_end(answer(code, "CLIENT_ERROR", life_cycle="INTERNAL_ERROR", message=message))
    assert (end.cause, end.said) == (cause, f"CLUSTER_ERROR (CLIENT_ERROR), {reason}" if code else reason)


@pytest.mark.parametrize(
    ("result", "life_cycle", "cause"),
    [
        ("FAILED", "TERMINATED", "code"),
        ("FAILED", "INTERNAL_ERROR", "platform"),
        ("TIMEDOUT", "TERMINATED", "timeout"),
        ("CANCELED", "TERMINATED", "cancelled"),
        ("UPSTREAM_CANCELED", "TERMINATED", "cancelled"),
        ("DISABLED", "TERMINATED", "cancelled"),
        ("MAXIMUM_CONCURRENT_RUNS_REACHED", "SKIPPED", "quota"),
        ("EXCLUDED", "SKIPPED", "code"),
        ("UPSTREAM_FAILED", "TERMINATED", "code"),
        ("SUCCESS_WITH_FAILURES", "TERMINATED", "code"),
        ("", "SKIPPED", "code"),
        ("OF_TOMORROW", "TERMINATED", "code"),
    ],
)
def test_an_old_answer_is_read_by_its_states(result: str, life_cycle: str, cause: str) -> None:
    end = explain_end(answer(result=result, life_cycle=life_cycle))
    assert (end.cause, end.said) == (cause, "")
    assert explain_end({"state": answer(result=result, life_cycle=life_cycle)["state"]}).cause == cause


def test_a_time_limit_is_one_whatever_the_code_says() -> None:
    assert explain_end(answer("CANCELED", "CLIENT_ERROR", result="TIMEDOUT")).cause == "timeout"
