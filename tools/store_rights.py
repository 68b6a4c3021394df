"""What each account of the containers' store may do, as policies of its buckets (`tools/container.py init` puts them).

A policy names accounts by their access keys, whose first part says what the account is for: `tasks-3f…` belongs to the
tasks, and every `supplier-…` to a supplier. Root may do everything, and only `init` and the store have its keys.
"""

from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import urlsplit

READ = ("s3:GetObject",)
PUT = ("s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts")
CHANGE = (*READ, *PUT, "s3:DeleteObject")

RIGHTS: dict[str, dict[str, Collection[str]]] = {
    "landing": {"tasks": READ, "supplier": PUT},
    "tables": {"tasks": CHANGE},
    "artifacts": {"tasks": CHANGE, "mlflow": READ},
    "journal": {"tasks": CHANGE},
}
"""What each kind of account may do with the objects of a place."""

LISTS = {
    "landing": ("tasks", "triggerer"),
    "tables": ("tasks",),
    "artifacts": ("tasks", "mlflow"),
    "journal": ("tasks",),
}
"""Who sees the names of the objects of a place."""


def policies(places: Mapping[str, str], accounts: Collection[str], *, simulates: bool) -> dict[str, dict[str, Any]]:
    """Return the policy of each bucket.

    Args:
        places: the URI of each place, `s3://bucket/prefix`.
        accounts: the access keys of the store's accounts.
        simulates: let tasks put files into landing, for example projects.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for place, uri in places.items():
        parts = urlsplit(uri)
        statements = found.setdefault(parts.netloc, [])
        prefix = f"{parts.path.strip('/')}/".lstrip("/")
        resource = f"arn:aws:s3:::{parts.netloc}"
        for kind, actions in RIGHTS[place].items():
            more = PUT if simulates and (place, kind) == ("landing", "tasks") else ()
            statements += _allow(accounts, kind, (*actions, *more), f"{resource}/{prefix}*")
        for kind in LISTS[place]:
            limit = {"Condition": {"StringLike": {"s3:prefix": [f"{prefix}*", prefix.rstrip("/")]}}} if prefix else {}
            statements += [{**each, **limit} for each in _allow(accounts, kind, ("s3:ListBucket",), resource)]
    return {bucket: {"Version": "2012-10-17", "Statement": statements} for bucket, statements in found.items()}


def _allow(accounts: Collection[str], kind: str, actions: Collection[str], resource: str) -> list[dict[str, Any]]:
    """Return the statement for the accounts of a kind; none if there is no such account."""
    keys = [access for access in accounts if access.split("-")[0] == kind]
    if not keys:
        return []
    return [{"Effect": "Allow", "Principal": {"AWS": keys}, "Action": list(actions), "Resource": resource}]
