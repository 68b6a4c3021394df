"""Compare files that were landed without a sidecar with one that came later. A person decides what follows."""

import shlex
from collections.abc import Iterable, Mapping

import polars as pl

from include.core.errors import DeliveryError
from include.core.journal import SET_ASIDE, Known
from include.core.parts import sets_of
from include.core.project import Project
from include.core.stack import of_file
from include.io.landing import Found, Landing
from include.io.postgres.journal import SeenObject
from include.steps.objects import check_sidecar, is_landed, sidecar_of


def contradictions(
    project: Project, landing: Landing, found: Iterable[Found], seen: Mapping[str, SeenObject], known: Known
) -> dict[str, list[str]]:
    """Map each feed to a sentence for each of its files in use that a later sidecar contradicts.

    The time that a later sidecar claims changes nothing: when a delivery counts was decided when it was landed.

    Args:
        project: the project.
        landing: where the files and their sidecars are.
        found: the files to look at.
        seen: what was recorded about objects that were read.
        known: the journal.
    """
    late = [f for f in found if f.sidecar and is_landed(seen.get(f.key), f) and not seen[f.key].sidecar]
    if not late:
        return {}
    in_use = known.deliveries.filter(~pl.col("verdict").is_in(SET_ASIDE))
    rows = dict(in_use.select(of_file(), "rows").group_by("delivery_id").sum().rows())
    digests, sets = dict(in_use.select("delivery_id", "sha256").iter_rows()), sets_of(known.entries)
    said: dict[str, list[str]] = {}
    for each in late:
        delivery_id = str(seen[each.key].delivery_id)
        if delivery_id not in digests:
            continue
        part = next((part for part in sets.get(delivery_id, ()) if part.key == each.key), None)
        content = (part.sha256, part.rows) if part else (digests[delivery_id], rows[delivery_id])
        try:
            sidecar = sidecar_of(landing, each)
            if sidecar is not None:
                check_sidecar(each, project.feeds[each.feed], sidecar, each.size, *content)
        except DeliveryError as error:
            said.setdefault(each.feed, []).append(
                f"{error}. The sidecar came after the file was landed. If it is right, the file is wrong: "
                f"python -m include.cli withdraw --project {project.name} --delivery {shlex.quote(delivery_id)} "
                "--by NAME --why REASON"
            )
    return said
