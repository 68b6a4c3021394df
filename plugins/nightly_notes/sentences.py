"""What came of a run, in one line, from the records that its tasks returned (`include/core/records.py`). Pure.

Records are JSON, and may be those of an older version of the product: a field that is missing is left out of the line.
"""

from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any

Records = Mapping[str, list[Any]]
"""What the tasks of a run returned, by the id of the task; a mapped task returned several."""


def outcome_of(records: Records) -> str | None:
    """Return what came of a run; None if its records say nothing that this plugin knows."""
    found = [line for say in SAYING if (line := say(records))]
    return "; ".join(found) or None


def lacks_of(records: Iterable[Any]) -> list[str]:
    """Return what each run date went on without, the newest first."""
    days = [day for each in records if isinstance(each, Mapping) for day in each.get("prepared_days", ())]
    return [
        f"{feed}: {day['day']} {sentence}"
        for day in sorted(days, key=lambda day: day["day"], reverse=True)
        for feed, sentence in sorted(day.get("lacks", {}).items())
    ]


def _record(records: Records, task: str, *fields: str) -> Mapping[str, Any]:
    """Return the record of a task that has these fields; empty if there is none."""
    for each in records.get(task, ()):
        if isinstance(each, Mapping) and all(each.get(name) is not None for name in fields):
            return each
    return {}


def _sentence(records: Records, task: str) -> str | None:
    return next((each for each in records.get(task, ()) if isinstance(each, str)), None)


def _prepared(records: Records) -> str | None:
    features = _record(records, "build_features", "interval", "rows", "prepared_days")
    if not features:
        return None
    checked, landed = _record(records, "validate", "quarantined"), _record(records, "land", "new")
    refused = sum(len(each.get("refused") or ()) for each in (landed, checked)) + (landed.get("unnamed") or 0)
    parts = [f"{_days(features)} prepared: {features['rows']:,} rows of features"]
    if landed:
        parts.append(_count(landed["new"], "new delivery", "new deliveries"))
    if checked.get("quarantined"):
        parts.append(f"{_count(checked['quarantined'], 'row')} in quarantine")
    if refused:
        parts.append(f"{_count(refused, 'delivery', 'deliveries')} refused")
    return ", ".join(parts)


def _trained(records: Records) -> str | None:
    """Return which checks rejected the version, which a line has room for, and then why; else what `report` said."""
    decision = _record(records, "gate", "checks")
    failed = [check for check in decision.get("checks", ()) if not check["passed"]]
    version = decision.get("model_version")
    subject = "the candidate" if version is None else f"version {version}"
    if failed:
        names = ", ".join(dict.fromkeys(check["name"] for check in failed))
        return f"{subject} rejected ({names}): {'; '.join(check['sentence'] for check in failed)}"
    return _sentence(records, "report") or (f"{subject} passed the gate" if decision else None)


def _decided(records: Records) -> str | None:
    """Return what a person answered about a version, or decided about an incident."""
    answer = _record(records, "record", "by", "model_version")
    if answer:
        verdict = answer.get("state") or "champion"
        since = answer["interval"]["start"] if "interval" in answer else None
        from_day = f" from {since} on" if since else ""
        return f"version {answer['model_version']} {verdict}{from_day}, by {answer['by']}: {answer.get('why') or ''}"
    return _record(records, "decide_incident", "sentence").get("sentence")


def _rolled_back(records: Records) -> str | None:
    done = _record(records, "rollback", "model_version", "first_day", "by")
    if not done:
        return None
    changed = _count(done.get("rows") or 0, "day", "days")
    return (
        f"version {done['model_version']} is the champion again from {done['first_day']} on, instead of version "
        f"{done.get('replaces')}; {changed} changed for readers; by {done['by']}: {done.get('why') or ''}"
    )


def _published(records: Records) -> str | None:
    done = _record(records, "publish", "interval", "days")
    if not done:
        return None
    scored = _record(records, "score", "days").get("days", ())
    versions = sorted({each["model_version"] for each in scored if each.get("model_version") is not None})
    of = f" of version {', '.join(map(str, versions))}" if versions else ""
    days = done["days"]
    if len(days) != 1:
        return f"{_days(done)}: {done.get('rows') or 0:,} predictions{of} of {_count(len(days), 'day')}"
    said = {
        "published": "published",
        "unchanged": "published before, nothing changed",
        "kept": f"stored, readers keep what they see; {days[0].get('differing') or 0:,} rows differ",
    }[days[0]["state"]]
    return f"{days[0]['day']}: {days[0]['rows']:,} predictions{of} {said} (batch {days[0]['batch_id']})"


def _measured(records: Records) -> str | None:
    outcomes, measured = _record(records, "outcomes", "interval", "rows", "days"), _record(records, "monitor", "alerts")
    skew = _record(records, "skew", "alerts")
    if not measured and not outcomes:
        return None
    parts = []
    if outcomes:
        parts.append(f"{_days(outcomes)}: {outcomes['rows']:,} outcomes of {_count(outcomes['days'], 'day')} recorded")
    if measured:
        parts.append(f"{_count(measured.get('days') or 0, 'day')} measured")
    if skew:
        parts.append(f"{_count(skew.get('rows') or 0, 'row')} built again")
    alerts = [*(measured.get("alerts") or ()), *(skew.get("alerts") or ())]
    rules = ", ".join(sorted({f"{each['subject']}: {each['rule']}" for each in alerts}))
    if measured or skew:
        parts.append(f"{_count(len(alerts), 'alert')} raised ({rules})" if alerts else "no alert")
    return ", ".join(parts)


def _swept(records: Records) -> str | None:
    swept, maintained = (
        [each for each in records.get(task, ()) if isinstance(each, Mapping)] for task in ("sweep", "maintain")
    )
    parts = []
    if swept:
        new, held = (sum(each.get("new") or 0 for each in swept), sum(len(each.get("held") or ()) for each in swept))
        of = _count(len(swept), "project")
        parts.append(f"{_count(new, 'late delivery', 'late deliveries')} landed, {held:,} held for a decision, in {of}")
    if maintained:
        would = "would be removed (dry run)" if any(each.get("dry_run") for each in maintained) else "removed"
        parts.append(f"{_count(sum(each.get('rows') or 0 for each in maintained), 'unneeded file')} {would}")
    return ", ".join(parts) or None


def _delivered(records: Records) -> str | None:
    done = _record(records, "simulate", "interval", "landed")
    if not done:
        return None
    there = f", {done['unchanged']:,} were there before" if done.get("unchanged") else ""
    return f"{_days(done)}: {_count(done['landed'], 'file')} of example data delivered{there}"


def _sent(records: Records) -> str | None:
    sent = next((each for each in records.get("send", ()) if isinstance(each, int)), 0)
    return f"{_count(sent, 'message')} sent" if sent else None


def _ranged(records: Records) -> str | None:
    """Return how many days of a range were prepared, and how many predictions each model published."""
    parts = []
    for task, found in sorted(records.items(), key=lambda each: ("." in each[0], each[0])):
        record = _record({task: found}, task, "interval", "rows", "done")
        failed = f", {_count(len(record['failed']), 'day')} failed" if record.get("failed") else ""
        if record and task == "build_features":
            days = sum(_length(part) for part in record["done"])
            parts.append(f"{_days(record)}: {_count(days, 'day')} prepared{failed}")
        elif record and task.endswith(".publish"):
            parts.append(f"{task.removesuffix('.publish')}: {record['rows']:,} predictions{failed}")
    return "; ".join(parts) or None


def _days(record: Mapping[str, Any]) -> str:
    first, last = record["interval"]["start"], record["interval"]["end"]
    return str(first) if first == last else f"{first} to {last}"


def _length(interval: Mapping[str, str]) -> int:
    return (date.fromisoformat(interval["end"]) - date.fromisoformat(interval["start"])).days + 1


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


SAYING = (
    _delivered, _prepared, _trained, _decided, _rolled_back, _published, _measured, _swept, _ranged, _sent,
)  # fmt: skip
"""What each kind of DAG says of its run, in the order of a night. Each one reads the records that only its DAG has."""
