"""Everything that a run date leaves behind, in a form in which two runs of the same day can be compared.

Only times, run ids and numbers of tries are left out.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
from deltalake import DeltaTable
from mlflow import MlflowClient

from tools.stack import Stack

LEFT_OUT_OF_TABLES = ("run_id", "features_version")  # each time that a step runs again adds a version
LEFT_OUT_OF_DATABASE = (
    *("id", "run_id", "seconds", "version", "table_versions"),
    *("created_at", "published_at", "prepared_at", "recorded_at", "checked_at", "started_at", "ended_at"),
    *("decided_at", "measured_at", "raised_at", "seen_at"),
    *("not_before", "deadline", "message_id"),  # of messages, which no webhook takes here
    *("sequence", "watermark"),  # the order of landing
    *("gate_id", "model_digest", "mlflow_run"),  # these cover the files of a logged model, which name their MLflow run
)
LEFT_OUT_OF_TAGS = (
    *("run_id", "gate_id", "evaluated_in_run", "git_commit"),
    *("features_version", "first_features_version", "outcome_version", "watermark", "model_digest"),
)
UNLIKE = "CASE to_jsonb(t) ->> 'name' WHEN 'scoring time' THEN '{measured,sentence}'::text[] ELSE '{}' END"

PROMOTIONS = """
SELECT row_to_json(t) FROM (
    SELECT p.model, p.model_version, p.from_day, p.trained_day, p.by, p.why, p.forced,
        g.model_version AS decided, g.champion_version, g.passed, g.checks
    FROM promotions p LEFT JOIN gates g USING (gate_id) ORDER BY p.model, p.from_day, p.id
) t;
"""
STEPS = """
SELECT DISTINCT concat_ws(' ', project, model, step, interval_start, interval_end, state) FROM step_runs ORDER BY 1;
"""


def landing(stack: Stack) -> dict[str, str]:
    """Return a digest of every file, manifests included."""
    root = stack.home / "landing"
    return {str(p.relative_to(root)): _digest(p) for p in sorted(root.rglob("*")) if p.is_file()}


def tables(stack: Stack) -> dict[str, pl.DataFrame]:
    """Return every Delta table as readers see it, with its rows sorted."""
    found = {}
    for log in sorted((stack.home / "tables").glob("*/_delta_log")):
        rows = pl.scan_delta(DeltaTable(str(log.parent))).collect()
        rows = rows.drop([name for name in LEFT_OUT_OF_TABLES if name in rows.columns])
        found[log.parent.name] = rows.sort(rows.columns)
    return found


def database(stack: Stack) -> dict[str, list[str]]:
    """Return every table of the shared database, one line for each row; of `step_runs`, only how each step ended."""
    query = stack.postgres().query
    names = query("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1;", "nightly").split()
    left_out = " ".join(LEFT_OUT_OF_DATABASE)
    found = {"step_runs": query(STEPS, "nightly").splitlines()}
    for name in names:
        row = f"(to_jsonb(t) - string_to_array(:'left_out', ' ') - {UNLIKE})::text"
        if name != "step_runs":
            found[name] = query(f'SELECT {row} FROM "{name}" t ORDER BY 1;', "nightly", left_out=left_out).splitlines()
    return found


def promotions(stack: Stack) -> list[dict[str, Any]]:
    """Return which version is champion from which day on, and by which decision."""
    return [json.loads(line) for line in stack.postgres().query(PROMOTIONS, "nightly").splitlines()]


def registry(stack: Stack) -> dict[str, Any]:
    """Return versions with tags, aliases, and the finished fits of each digest with their metrics."""
    client = _mlflow(stack)
    found: dict[str, Any] = {}
    for model in client.search_registered_models():
        versions = client.search_model_versions(f"name = '{model.name}'")
        found[f"{model.name} versions"] = {
            int(v.version): {"status": v.status, "evaluated": "evaluated_in_run" in v.tags, **_kept(v.tags)}
            for v in sorted(versions, key=lambda v: int(v.version))
        }
        found[f"{model.name} aliases"] = dict(model.aliases)
    for run in _runs(client):
        if run.info.status == "FINISHED":
            measured = {name: value for name, value in run.data.metrics.items() if "seconds" not in name}
            tags = {n: v for n, v in _kept(run.data.tags).items() if not n.startswith(("mlflow.", "gate"))}
            found[f"fit {run.data.tags['fit_digest']}"] = {"metrics": measured, **tags}
    return found


def fits(stack: Stack) -> dict[str, Counter[str]]:
    """Map the digest of each fit to the number of its runs in each status."""
    found: dict[str, Counter[str]] = {}
    for run in _runs(_mlflow(stack)):
        found.setdefault(run.data.tags["fit_digest"], Counter())[run.info.status] += 1
    return found


def _mlflow(stack: Stack) -> MlflowClient:
    uri = stack.cli_environment()["MLFLOW_TRACKING_URI"]
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def _runs(client: MlflowClient) -> list[Any]:
    experiments = [e.experiment_id for e in client.search_experiments() if e.name != "Default"]
    return list(client.search_runs(experiments, max_results=1000))


def _kept(tags: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in sorted(tags.items()) if name not in LEFT_OUT_OF_TAGS}


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
