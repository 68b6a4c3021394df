# ruff: noqa: E501, S608  # SQL of constants, a statement as long as it is
"""Fill a shared database with what nights leave behind, without running any: models, days, checks and alerts.

Only the rows that the pages read are made, by SQL, with triggers and foreign keys off: the connection must be a
superuser's. Values follow from the numbers of project, model and day, so that two fillings are equal.
"""

from dataclasses import dataclass
from datetime import date

import sqlalchemy as sa

HOSTILE = """<img src=x onerror="document.title='ran'">"""
"""A text of a supplier that would be markup. It is in the examples of the quarantine, and must be shown as text."""


@dataclass(frozen=True)
class Shape:
    """How much is filled.

    Attributes:
        projects: number of projects.
        models: number of models of each.
        days: number of run dates.
        last: the newest run date.
        rows: rows of a day.
        features: columns whose drift is measured.
    """

    projects: int = 10
    models: int = 5
    days: int = 730
    last: date = date(2026, 11, 29)
    rows: int = 40_000
    features: int = 20


PROBLEM_TYPES = "ARRAY['binary', 'regression', 'count', 'quantile', 'multiclass']"
DAYS = (
    "generate_series(CAST(:last AS date) - CAST(:days AS integer) + 1, CAST(:last AS date), interval '1 day') AS d(at)"
)
PROJECTS = "generate_series(1, :projects) AS p(n)"
MODELS = f"{PROJECTS} CROSS JOIN generate_series(1, :models) AS m(n)"
PROJECT, MODEL = "'project_' || p.n", "'model_' || p.n || '_' || m.n"
MODEL_NUMBER = "(p.n * 31 + m.n * 7)"
DAY_NUMBER = "(d.at::date - date '2020-01-01')"
BATCH = f"md5({MODEL} || d.at::date)::uuid"
DIGEST = "repeat('ab', 32)"
FEEDS = "unnest(ARRAY['orders', 'prices', 'stock', 'weather']) WITH ORDINALITY AS f(name, n)"
VERSION = "1 + greatest(0, (d.at::date - (CAST(:last AS date) - CAST(:days AS integer) + 1)) / 45)"
RUN = "'scheduled__' || d.at::date || 'T03:00:00+00:00'"
MORNING = "(d.at::date + time '03:10') AT TIME ZONE 'America/New_York'"

STATEMENTS = (
    f"""
INSERT INTO projects (project, title, timezone)
SELECT {PROJECT}, 'Project ' || p.n, (ARRAY['America/New_York', 'Europe/Berlin'])[1 + p.n % 2] FROM {PROJECTS}
""",
    f"""
INSERT INTO models (model, project, outcome, problem_type, title, owner)
SELECT {MODEL}, {PROJECT}, 'late', ({PROBLEM_TYPES})[1 + (m.n - 1) % 5], 'Model ' || p.n || '.' || m.n, 'team-' || p.n
FROM {MODELS}
""",
    f"""
INSERT INTO prepared_days (project, day, data_view, as_of, watermark, deliveries, table_versions, rows, number, lacks,
    run_id, prepared_at, left_out, config_digest)
SELECT {PROJECT}, d.at::date, 'point_in_time', (d.at::date + time '02:00') AT TIME ZONE 'America/New_York',
    {DAY_NUMBER} * 10, ARRAY['a', 'b', 'c', 'd'], '{{}}', :rows + {DAY_NUMBER} % 700, 1,
    CASE WHEN {DAY_NUMBER} % 9 = 0 THEN '{{"weather": "knows no accepted file of the day before"}}'::jsonb ELSE '{{}}' END,
    {RUN}, {MORNING}, 3, {DIGEST}
FROM {PROJECTS} CROSS JOIN {DAYS}
""",
    f"""
INSERT INTO journal (project, sequence, kind, subject, entry, by, why, run_id, recorded_at)
SELECT {PROJECT}, {DAY_NUMBER} * 10 + f.n, 'delivery', f.name || '/' || d.at::date || '.csv@0123456789ab',
    jsonb_build_object('feed', f.name, 'day', d.at::date, 'key', f.name || '/' || d.at::date || '.csv', 'size',
        2000000 + {DAY_NUMBER} % 1000 * 100, 'rows', :rows + {DAY_NUMBER} % 700 * f.n, 'available_from', {MORNING},
        'verdict', 'landed')
        || CASE WHEN {DAY_NUMBER} % 90 = 0
            THEN '{{"columns": ["discount: not declared, and ignored"]}}'::jsonb ELSE '{{}}' END,
    NULL, NULL, {RUN}, {MORNING}
FROM {PROJECTS} CROSS JOIN {DAYS} CROSS JOIN {FEEDS}
""",
    f"""
INSERT INTO journal (project, sequence, kind, subject, entry, by, why, run_id, recorded_at)
SELECT {PROJECT}, {DAY_NUMBER} * 10 + 4 + f.n, 'verdict', f.name || '/' || d.at::date || '.csv@0123456789ab',
    jsonb_build_object('feed', f.name, 'day', d.at::date, 'verdict',
        CASE WHEN {DAY_NUMBER} % 50 = 3 AND f.n = 2 THEN 'refused' ELSE 'accepted' END),
    NULL, CASE WHEN {DAY_NUMBER} % 50 = 3 AND f.n = 2 THEN '40 % of the rows are invalid' END, {RUN}, {MORNING}
FROM {PROJECTS} CROSS JOIN {DAYS} CROSS JOIN {FEEDS}
""",
    f"""
INSERT INTO journal (project, sequence, kind, subject, entry, by, why, run_id, recorded_at)
SELECT {PROJECT}, {DAY_NUMBER} * 10 + 9, 'prepared_day', d.at::date || ' record 1',
    jsonb_build_object('day', d.at::date, 'number', 1, 'as_of', {MORNING}, 'watermark', {DAY_NUMBER} * 10,
        'reconstructed', false),
    NULL, NULL, {RUN}, {MORNING}
FROM {PROJECTS} CROSS JOIN {DAYS}
""",
    f"""
INSERT INTO quality_results (project, feed, day, delivery_id, expectation, column_name, severity, success,
    rows_evaluated, unexpected_rows, observed, run_id, checked_at, quarantined_rows, examples)
SELECT {PROJECT}, f.name, d.at::date, f.name || '/' || d.at::date || '.csv@0123456789ab',
    'column_values_to_be_between', 'column_' || e.n, CASE WHEN e.n < 4 THEN 'critical' ELSE 'warning' END,
    e.n > 2 OR ({DAY_NUMBER} + f.n) % 7 <> 0, :rows, CASE WHEN e.n <= 2 AND ({DAY_NUMBER} + f.n) % 7 = 0 THEN 12 ELSE 0 END,
    NULL, {RUN}, {MORNING}, CASE WHEN e.n = 1 AND ({DAY_NUMBER} + f.n) % 7 = 0 THEN 12 END,
    CASE WHEN e.n = 1 AND ({DAY_NUMBER} + f.n) % 7 = 0 THEN jsonb_build_array('row 17: store 4, column_1 -3.5',
        'row 90: store 2, column_1 ' || CAST(:hostile AS text)) ELSE '[]' END
FROM {PROJECTS} CROSS JOIN {DAYS} CROSS JOIN {FEEDS} CROSS JOIN generate_series(1, 8) AS e(n)
""",
    f"""
INSERT INTO feed_punctuality (project, feed, day, supplier, file_day, due_at, available_from, late, run_id)
SELECT {PROJECT}, f.name, d.at::date, 'supplier-' || f.n, d.at::date - 1, {MORNING},
    {MORNING} + make_interval(mins => minutes), minutes > 0, {RUN}
FROM {PROJECTS} CROSS JOIN {DAYS} CROSS JOIN {FEEDS}
CROSS JOIN LATERAL (SELECT CASE WHEN ({DAY_NUMBER} + f.n) % 11 = 0 THEN 35 ELSE -20 - ({DAY_NUMBER} % 13)::integer END) AS t(minutes)
""",
    f"""
INSERT INTO gates (gate_id, model, model_version, day, candidate, champion_version, model_digest, rules_digest, passed,
    checks, holdout_start, holdout_end, rows, run_id, decided_at, validation_start, validation_end)
SELECT md5({MODEL} || 'gate' || d.at::date)::uuid, {MODEL}, 1 + {DAY_NUMBER} % 700, d.at::date, 'boosted', 1, {DIGEST},
    {DIGEST}, {DAY_NUMBER} % 45 = 0, 12, d.at::date - 28, d.at::date - 1, :rows * 28, {RUN}, {MORNING}, d.at::date - 56,
    d.at::date - 29
FROM {MODELS} CROSS JOIN {DAYS}
""",
    f"""
INSERT INTO gate_results (gate_id, number, name, subject, measured, threshold, passed, sentence)
SELECT md5({MODEL} || 'gate' || d.at::date)::uuid, c.n, (ARRAY['champion', 'dummy', 'leakage', 'slice'])[1 + c.n % 4],
    'log_loss', 0.4 + c.n / 100.0, 0.45, c.n <> 5 OR {DAY_NUMBER} % 45 = 0,
    'log_loss is ' || round(0.4 + c.n / 100.0, 2) || '; at most 0.45 is allowed'
FROM {MODELS} CROSS JOIN {DAYS} CROSS JOIN generate_series(1, 6) AS c(n) WHERE d.at::date > CAST(:last AS date) - 120
""",
    f"""
INSERT INTO promotions (model, model_version, from_day, by, why, run_id, created_at, trained_day, gate_id)
SELECT {MODEL}, {VERSION}, d.at::date, CASE WHEN {DAY_NUMBER} % 2 = 0 THEN 'gate' ELSE 'ana' END,
    'all 12 checks passed', {RUN}, {MORNING}, d.at::date - 1, NULL
FROM {MODELS} CROSS JOIN {DAYS}
WHERE (d.at::date - (CAST(:last AS date) - CAST(:days AS integer) + 1)) % 45 = 0 ORDER BY d.at
""",
    f"""
INSERT INTO version_moves (model, model_version, from_state, state, by, why, run_id, created_at)
SELECT {MODEL}, {VERSION}, 'registered', 'champion', 'gate', 'all 12 checks passed', {RUN}, {MORNING}
FROM {MODELS} CROSS JOIN {DAYS}
WHERE (d.at::date - (CAST(:last AS date) - CAST(:days AS integer) + 1)) % 45 = 0 ORDER BY d.at
""",
    f"""
INSERT INTO version_moves (model, model_version, from_state, state, by, why, expires_at, run_id)
SELECT {MODEL}, 900, 'registered', 'pending', 'gate', 'waits for approval', CAST(:last AS date) + interval '7 days', 'r'
FROM {MODELS} WHERE m.n = 1
""",
    f"""
INSERT INTO batches (batch_id, model, day, model_version, rows, digest, as_of, run_id, created_at)
SELECT {BATCH}, {MODEL}, d.at::date, {VERSION}, :rows + {DAY_NUMBER} % 700, {DIGEST}, {MORNING}, {RUN}, {MORNING}
FROM {MODELS} CROSS JOIN {DAYS}
""",
    f"""
INSERT INTO published (model, day, batch_id, run_id, published_at)
SELECT {MODEL}, d.at::date, {BATCH}, {RUN}, {MORNING} + interval '9 min' FROM {MODELS} CROSS JOIN {DAYS}
WHERE NOT (m.n = 2 AND d.at::date = :last)
""",
    f"""
INSERT INTO publications (model, day, batch_id, mode, run_id, published_at)
SELECT {MODEL}, d.at::date, {BATCH}, 'replace', {RUN}, {MORNING} + interval '9 min' FROM {MODELS} CROSS JOIN {DAYS}
WHERE NOT (m.n = 2 AND d.at::date = :last) ORDER BY d.at
""",
    f"""
INSERT INTO performance_daily (model, day, model_version, slice, slice_value, metric, value, rows, digest, run_id)
SELECT {MODEL}, d.at::date, {VERSION}, s.name, s.value, x.metric,
    (0.35 + 0.04 * sin({DAY_NUMBER} / 9.0 + m.n) + 0.02 * (hashint4({DAY_NUMBER}::integer + m.n * 13) % 100) / 100.0
        + s.n / 50.0) * (0.6 + p.n / 12.0), :rows, {DIGEST}, {RUN}
FROM {MODELS} CROSS JOIN {DAYS}
CROSS JOIN (VALUES (0, 'all', 'all'), (1, 'region', 'north'), (2, 'region', 'south'), (3, 'region', 'west'),
    (1, 'weekday', 'working day'), (2, 'weekday', 'weekend')) AS s(n, name, value)
CROSS JOIN LATERAL unnest(CASE (m.n - 1) % 5
    WHEN 0 THEN ARRAY['log_loss', 'brier', 'roc_auc', 'calibration_gap', 'ece']
    WHEN 1 THEN ARRAY['mae', 'rmse', 'd2', 'mean_error', 'wape']
    WHEN 2 THEN ARRAY['poisson_deviance', 'd2', 'mae', 'mean_error', 'wape']
    WHEN 3 THEN ARRAY['pinball', 'coverage', 'width', 'mean_error', 'mae']
    ELSE ARRAY['log_loss', 'accuracy', 'd2', 'calibration_gap', 'ece'] END) AS x(metric)
WHERE d.at::date < CAST(:last AS date) - 1
""",
    f"""
INSERT INTO champion_comparisons (model, day, model_version, slice, slice_value, place, champion_version, last_day,
    metric, rows, loss, digest, run_id)
SELECT {MODEL}, d.at::date, CASE c.place WHEN -1 THEN 0 ELSE {VERSION} - c.place END, 'all', 'all', c.place, {VERSION},
    d.at::date, 'log_loss', :rows, 0.4 + abs(c.place) / 20.0, {DIGEST}, {RUN}
FROM {MODELS} CROSS JOIN {DAYS} CROSS JOIN (VALUES (-1), (0)) AS c(place)
""",
    f"""
INSERT INTO drift_daily (model, day, role, feature, slice, slice_value, reference, days, model_version, rows, shift,
    spread, shape, psi, missing, outside, strength, digest, run_id)
SELECT {MODEL}, d.at::date, CASE x.n WHEN 1 THEN 'prediction' ELSE 'input' END,
    CASE x.n WHEN 1 THEN 'score' ELSE 'feature_' || x.n END, 'all', 'all', r.name, 1, {VERSION}, :rows, 0.1, 0.05,
    0.08, 0.02, 0.001, 0.0, abs(sin({DAY_NUMBER} / 20.0 + x.n)) * (0.4 + x.n / 25.0), {DIGEST}, {RUN}
FROM {MODELS} CROSS JOIN {DAYS} CROSS JOIN generate_series(1, :features) AS x(n)
CROSS JOIN (VALUES ('weeks'), ('training')) AS r(name)
""",
    f"""
INSERT INTO freshness (project, subject, day, newest_day, behind_days, late, sentence, run_id)
SELECT {PROJECT}, {MODEL}, d.at::date, d.at::date, CASE WHEN m.n = 2 AND d.at::date = :last THEN 1 ELSE 0 END,
    m.n = 2 AND d.at::date = :last,
    CASE WHEN m.n = 2 AND d.at::date = :last THEN 'predictions end a day too early' ELSE 'up to date' END, {RUN}
FROM {MODELS} CROSS JOIN {DAYS}
""",
    f"""
INSERT INTO alerts (project, subject, rule, day, sentence, run_id, raised_at)
SELECT {PROJECT}, {MODEL}, 'degradation: level', d.at::date, 'log_loss is 12 % over that of the dummy baseline', {RUN},
    {MORNING}
FROM {MODELS} CROSS JOIN {DAYS} WHERE {DAY_NUMBER} % 40 = 0 ORDER BY d.at
""",
    f"""
INSERT INTO incident_records (project, scope, cause, rule, subject, occurrence, models, first_day, last_day,
    recovered_day, severity, what, effect, command, runbook, owner, more, opened_at, recovered_at)
SELECT {PROJECT}, 'monitor', {MODEL} || d.at::date, 'degradation: level', {MODEL}, '', ARRAY[{MODEL}], d.at::date,
    d.at::date, CASE WHEN d.at::date < CAST(:last AS date) - 8 OR m.n > 1 THEN d.at::date + 1 END,
    CASE WHEN p.n = 1 THEN 'critical' ELSE 'high' END, 'log_loss is 12 % over that of the dummy baseline',
    'Predictions are worse than a constant.', 'python -m include.cli rollback --model ' || {MODEL}, 'docs/runbooks/',
    'team', '{{}}', {MORNING},
    CASE WHEN d.at::date < CAST(:last AS date) - 8 OR m.n > 1 THEN {MORNING} + interval '1 day' END
FROM {MODELS} CROSS JOIN {DAYS} WHERE {DAY_NUMBER} % 40 = 18 ORDER BY d.at
""",
    f"""
INSERT INTO step_runs (project, model, step, interval_start, interval_end, state, rows, seconds, run_id, started_at,
    ended_at, ran_on)
SELECT {PROJECT}, CASE WHEN s.n > 3 THEN 'model_' || p.n || '_1' END, s.name, d.at::date, d.at::date, 'success', :rows,
    20 + s.n, {RUN}, {MORNING}, {MORNING} + interval '20 s', d.at::date
FROM {PROJECTS} CROSS JOIN {DAYS} CROSS JOIN unnest(
    ARRAY['land', 'validate', 'build_features', 'fit', 'evaluate', 'gate', 'score', 'publish', 'outcomes', 'monitor']
) WITH ORDINALITY AS s(name, n)
""",
    f"""
INSERT INTO skew_checks (model, day, batch_id, model_version, state, why, rows, exact, missing, features, scores,
    signature, unseen, outside, far, run_id)
SELECT {MODEL}, d.at::date, {BATCH}, {VERSION}, 'compared', '', :rows, true, 0, '{{}}', '{{}}', '[]', '{{}}', '{{}}',
    '{{}}', {RUN}
FROM {MODELS} CROSS JOIN {DAYS}
""",
)


def fill(connection: sa.Connection, shape: Shape) -> None:
    """Fill a migrated, empty database in the transaction of a superuser, and collect statistics."""
    values = {**vars(shape), "hostile": HOSTILE}
    connection.execute(sa.text("SET LOCAL session_replication_role = replica"))
    for statement in STATEMENTS:
        used = {name: value for name, value in values.items() if f":{name}" in statement}
        connection.execute(sa.text(statement), used)
    connection.execute(sa.text("ANALYZE"))
