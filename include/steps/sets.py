"""Read the parts of one feed and day as one delivery. What a set is, and when it is complete, is in `core/parts.py`.

A refused part refuses its set and no other. A set that is not complete is not read, and waits. Files that look like
parts of a feed that declares none are recognised here too.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime

import polars as pl

from include.core import parts, schemas
from include.core.erasure import without_erased_hashes
from include.core.errors import DeliveryError
from include.core.feeds import Feed, Parts
from include.core.intake import NotYetError, available_from, is_history, name_order, usual_moment
from include.core.journal import SET_ASIDE, Known
from include.core.names import raw_table
from include.core.parts import Part, PartVersion
from include.core.paths import set_key
from include.core.personal import HashKey, protect
from include.core.project import Project
from include.io.landing import Found, Landing
from include.io.postgres.journal import SeenObject
from include.io.tables import Tables
from include.steps.entries import NotLanded, Taken, delivery_id_of
from include.steps.objects import is_landed, read_object

Slot = tuple[str, date]


@dataclass(frozen=True)
class _Source:
    """Where the rows of a version of a part are: read just now, or in the raw table as a part of an earlier set."""

    version: PartVersion
    records: pl.DataFrame | None = None
    earlier: tuple[str, Part] | None = None
    erased: int = 0


@dataclass(frozen=True)
class SetReader:
    """Read sets: what the journal knows of earlier ones, and where their rows are.

    Attributes:
        project: the project.
        landing: where the parts are.
        tables: where the rows of earlier sets are.
        known: the journal.
        sets: the parts of each delivery that is a set.
        seen: the objects that were read.
        now: the database's time of the landing.
        key: the hash key.
    """

    project: Project
    landing: Landing
    tables: Tables
    known: Known
    sets: Mapping[str, tuple[Part, ...]]
    seen: Mapping[str, SeenObject]
    now: datetime
    key: HashKey

    def take(self, objects: Sequence[Found], marker: Found | None) -> tuple[list[Taken], list[NotLanded]]:
        """Return the set of a feed and day as deliveries: none, one, or an earlier state and the newest one.

        Args:
            objects: all objects of the feed and day, at least one.
            marker: the file that says that the parts are complete, None if there is none.
        """
        feed, slot = self.project.feeds[objects[0].feed], (objects[0].feed, objects[0].day)
        before = self._before(slot)
        is_new_write = self._is_new(marker)
        listed = {found.key for found in objects}
        known = {part.name for part in self.sets[before]} if before else set()
        own = {str(found.part) for found in objects}
        is_new_write |= isinstance(feed.parts, Parts) and len(own) == feed.parts.expect and not own & known
        gone = [] if before is None or is_new_write else [p for p in self.sets[before] if p.key not in listed]
        names = own | {part.name for part in gone}
        marked = marker is not None
        if why := parts.why_incomplete(self.project, *slot, names, marked=marked, now=self.now):
            return [], [NotLanded(objects[-1], why, waits=True)]
        if marker and (why := self._why_no_write(slot, objects, marker, before, is_new=is_new_write)):
            return [], [NotLanded(marker, why)]
        if extra := parts.superfluous(feed, names, known):
            why = (
                f"{len(names)} parts of feed {slot[0]} for {slot[1]} are there, and parts.expect is "
                f"{len(names) - len(extra)}; superfluous: {parts.listed(extra)}; remove them, or correct parts.expect"
            )
            if gone:
                why += (
                    f". {len(gone)} of the {len(names)} are not in landing any more and are read from {before}; if "
                    "nothing of it is right, withdraw it"
                )
            return [], [NotLanded(next((f for f in objects if f.part in extra), objects[-1]), why)]

        sources, left = self._read(objects)
        if refused := [each for each in left if not each.waits]:
            more = f"; no part of feed {slot[0]} for {slot[1]} is used without it"
            return [], [replace(each, why=f"{each.why}{more}") for each in refused]
        sources |= {part.key: _Source(_version(part), earlier=(str(before), part)) for part in gone}
        versions = [source.version for source in sources.values()]
        there = {version.name for version in versions}
        if why := parts.why_incomplete(self.project, *slot, there, marked=marked, now=self.now):
            return [], [*left, NotLanded(objects[-1], why, waits=True)]
        if feed.versions is None and (tied := parts.ties(versions)):
            return [], [NotLanded(objects[-1], self._why_tied(slot, tied[0]))]
        try:
            return self._deliveries(slot, objects, marker, versions, sources, before), left
        except DeliveryError as error:
            return [], [NotLanded(objects[-1], str(error))]

    def _is_new(self, marker: Found | None) -> bool:
        return marker is not None and not is_landed(self.seen.get(marker.key), marker)

    def _before(self, slot: Slot) -> str | None:
        """Return the newest set of a feed and day that could be used, None if there is none."""
        of_slot = self._of_slot(slot).filter(~pl.col("verdict").is_in(SET_ASIDE))
        sets = [each for each in of_slot["delivery_id"] if each in self.sets]
        return sets[-1] if sets else None

    def _of_slot(self, slot: Slot) -> pl.DataFrame:
        feed, day = slot
        return self.known.deliveries.filter(pl.col("feed") == feed, pl.col("day") == day)

    def _why_no_write(
        self, slot: Slot, objects: Sequence[Found], marker: Found, before: str | None, *, is_new: bool
    ) -> str | None:
        """Return why the objects are not the parts that one marker is about, None if they are."""
        of_day = f"of feed {slot[0]} for {slot[1]}"
        again = f"remove the files of the other write, or write the day again, with {marker.uri} last"
        if len(found := parts.writes(each.key for each in objects)) > 1:
            each = "; ".join(f"{uuid}: {parts.listed(keys)}" for uuid, keys in found.items())
            return f"the parts {of_day} are of {len(found)} writes: {each}; {again}"
        if is_history(self.project.feeds[slot[0]], slot[1]):
            return None
        newer = [each.key for each in objects if each.modified_at > marker.modified_at]
        if not newer and before is not None and not is_new:
            newer = [each.key for each in objects if not is_landed(self.seen.get(each.key), each)]
        if newer:
            return f"parts {of_day} were written after their marker {marker.uri}: {parts.listed(newer)}; {again}"
        return None

    def _why_tied(self, slot: Slot, tied: Sequence[PartVersion]) -> str:
        return (
            f"part {tied[0].name} of feed {slot[0]} for {slot[1]} is there as {', '.join(each.key for each in tied)}, "
            f"which have the same time, {tied[0].available_from:%Y-%m-%d %H:%M:%S} UTC, so nothing says which one is "
            f"newer; remove all but one, or declare that the greater name is newer: feeds.{slot[0]}.versions: by_name"
        )

    def _read(self, objects: Sequence[Found]) -> tuple[dict[str, _Source], list[NotLanded]]:
        """Map the key of each object to its version; the rows of one that has not changed are in the raw table."""
        sources, left = {}, []
        recorded = {
            (part.key, part.sha256): (each, part)
            for each in self._of_slot((objects[0].feed, objects[0].day))["delivery_id"]
            for part in self.sets.get(each, ())
        }
        for found in objects:
            earlier = self._unchanged(found)
            if earlier is None:
                try:
                    erased = self.known.erased
                    taken = read_object(self.project, found, self.landing, self.now, None, set(), erased, self.key)
                except DeliveryError as error:
                    left.append(NotLanded(found, str(error), waits=isinstance(error, NotYetError)))
                    continue
                earlier = recorded.get((found.key, taken.sha256))
            if earlier is None:
                version = PartVersion(str(found.part), found.key, taken.sha256, taken.available_from)
                sources[found.key] = _Source(version, taken.records, erased=taken.erased)
            else:
                sources[found.key] = _Source(_version(earlier[1]), earlier=earlier)
        return sources, left

    def _unchanged(self, found: Found) -> tuple[str, Part] | None:
        """Return the set in which an object is that has not changed since, and the part."""
        seen = self.seen.get(found.key)
        if seen is None or seen.delivery_id is None or not is_landed(seen, found):
            return None
        of_set = self.sets.get(seen.delivery_id, ())
        return next(((seen.delivery_id, part) for part in of_set if part.key == found.key), None)

    def _deliveries(
        self,
        slot: Slot,
        objects: Sequence[Found],
        marker: Found | None,
        versions: Sequence[PartVersion],
        sources: Mapping[str, _Source],
        before: str | None,
    ) -> list[Taken]:
        feed, (name, day) = self.project.feeds[slot[0]], slot
        first_at = None
        if before is None and feed.marker is None:
            first_at = (
                usual_moment(self.project, name, day) if feed.parts == "at_cutoff" else parts.complete_at(versions)
            )
        key, sizes = set_key(feed.path, feed.day_in_path(day)), {found.key: found.size for found in objects}
        written = [*objects, *([marker] if marker else [])]
        of_set = self._of_slot(slot).filter(pl.col("key") == key).select("delivery_id", "sha256").rows()
        newest, ids = (of_set[-1] if of_set else None), set(self.known.deliveries["delivery_id"])
        moment = self._moment_of_marker(marker)
        taken = []
        for state in parts.states(versions, first_at=first_at):
            size = sum(sizes.get(version.key, 0) for version in state.values())
            modified_at = max(found.modified_at for found in objects)
            whole = Found(name, day, key, self.landing.pattern(name, day), size, modified_at)
            digest = parts.set_digest({part: version.sha256 for part, version in state.items()})
            each = self._taken(whole, delivery_id_of(whole.key, digest, newest, ids), digest, state, sources)
            each = replace(each, available_from=max([each.available_from, *moment]))
            newest = (each.delivery_id, digest)
            ids.add(each.delivery_id)
            reused = None if self._is_new(marker) else self._why_reused(slot, each)
            taken.append(replace(each, doubt=reused or self._doubt(slot, each, before)))
        return [*taken[:-1], replace(taken[-1], objects=tuple(written))]

    def _moment_of_marker(self, marker: Found | None) -> list[datetime]:
        """Return from when a marker counts; of a feed whose supplier makes claims, the parts' claims count alone."""
        if marker is None or self.project.feeds[marker.feed].live_from is None:
            return []
        project, at = self.project, marker.modified_at
        return [available_from(project, marker.feed, marker.day, marker.uri, claim=None, modified_at=at, now=self.now)]

    def _doubt(self, slot: Slot, taken: Taken, before: str | None) -> str | None:
        """Return why a set that would change what was known at a past moment waits for a decision."""
        if before is None or is_history(self.project.feeds[slot[0]], slot[1]) or before == taken.delivery_id:
            return None
        there = self._of_slot(slot).row(by_predicate=pl.col("delivery_id") == before, named=True)
        if there["verdict"] == "refused" or taken.available_from > there["available_from"]:
            return None
        return (
            f"it says that its newest part became available at {taken.available_from:%Y-%m-%d %H:%M:%S} UTC, not after "
            f"{before}, which it would replace; accept it only if it is to change what that set was known to be"
        )

    def _why_reused(self, slot: Slot, taken: Taken) -> str | None:
        """Return why a set waits that has a part as it is in a set that nothing uses; None if it has no such part.

        A person set that one aside, or must decide on it, and nobody has said which of its parts are wrong.
        """
        aside: dict[tuple[str, str], str] = {}
        used: set[tuple[str, str]] = set()
        for each, verdict, why in self._of_slot(slot).select("delivery_id", "verdict", "why").iter_rows():
            contents = {(part.name, part.sha256) for part in self.sets.get(each, ())}
            if verdict in SET_ASIDE:
                state = f"was withdrawn ({why})" if verdict == "withdrawn" else "waits for a decision"
                aside |= dict.fromkeys(contents, f"{each}, which {state}")
            else:
                used |= contents
        contents = {(part.name, part.sha256) for part in taken.parts}
        reused = {name: aside[name, digest] for name, digest in contents - used if (name, digest) in aside}
        if not reused:
            return None
        newest = [said for said in aside.values() if said in reused.values()][-1]
        names = parts.listed(parts.in_order(name for name, said in reused.items() if said == newest))
        return f"it has {names} as in {newest}; accept it only if nothing is wrong there"

    def _taken(
        self,
        found: Found,
        of_set: str,
        digest: str,
        state: Mapping[str, PartVersion],
        sources: Mapping[str, _Source],
    ) -> Taken:
        """Return a set; the rows of its parts stand one after another, so that each `_row` is another."""
        feed = self.project.feeds[found.feed]
        shape = {"_row": pl.Int64(), **dict.fromkeys(feed.kept, pl.String())}
        moved, records, kept = 0, [pl.DataFrame(schema=shape)], []
        in_set = []
        for name in parts.in_order(state):
            source = sources[state[name].key]
            if source.records is not None:
                rows = source.records.select(shape.keys())
                last = int(rows["_row"].max() or 0)  # type: ignore[arg-type]
                records.append(rows.with_columns(pl.col("_row") + moved))
            else:
                assert source.earlier is not None
                rows, last = self._rows(found.feed, found.day, *source.earlier), source.earlier[1].last
                kept.append(rows.with_columns(pl.col("_row") + moved))
            version = source.version
            in_set.append(Part(name, version.key, version.sha256, rows.height, version.available_from, moved, last))
            moved += last
        moment = max(part.available_from for part in in_set)
        return Taken(
            found,
            of_set,
            digest,
            moment,
            pl.concat(records),
            parts=tuple(in_set),
            kept=pl.concat(kept) if kept else None,
            erased=sum(sources[version.key].erased for version in state.values()),
        )

    def _rows(self, feed: str, day: date, of_set: str, part: Part) -> pl.DataFrame:
        """Return the rows of a part of an earlier set from the raw table, with the lines of its file as `_row`.

        Raises:
            DeliveryError: they are not all there.
        """
        name = raw_table(self.project.name, feed)
        inside = pl.col("_row").is_between(part.after + 1, part.after + part.last)
        there = pl.col("day") == day, pl.col("delivery_id") == of_set, inside
        rows = self.tables.scan(name).filter(*there).collect().with_columns(pl.col("_row") - part.after)
        rows, erased = (
            without_erased_hashes(self.project.feeds[feed], rows, self.known.erased, self.key),
            self.known.erased.rows,
        )
        if rows.height != part.rows and not (of_set in erased and rows.height < part.rows):
            raise DeliveryError(
                f"part {part.name} of feed {feed} for {day}: {name} has {rows.height} of its {part.rows} rows in "
                f"{of_set}; deliver {part.key} again"
            )
        return rows.select(schemas.raw(self.project.feeds[feed]).keys())


def _version(part: Part) -> PartVersion:
    return PartVersion(part.name, part.key, part.sha256, part.available_from)


def changed_slots(objects: Iterable[Found], markers: Collection[Found], seen: Mapping[str, SeenObject]) -> set[Slot]:
    """Return the feeds and days of which an object or a marker is new or was changed."""
    return {(each.feed, each.day) for each in (*objects, *markers) if not is_landed(seen.get(each.key), each)}


def without_parts(
    project: Project, tables: Tables, taken: Sequence[Taken], listed: pl.DataFrame, key: HashKey
) -> tuple[list[Taken], list[NotLanded]]:
    """Refuse files that share fewer than half of their keys with the file of the same day that they would replace.

    They are parts of a day whose feed declares none. Keys are compared as tables have them: typed,
    and with identifiers hashed.

    Args:
        project: the project.
        tables: where the rows of earlier deliveries are.
        taken: what was read.
        listed: the deliveries of the journal (columns of `schemas.DELIVERIES`).
        key: with which identifiers are hashed.
    """
    ids, refused = set(listed["delivery_id"]), []
    counting = listed.filter(~pl.col("verdict").is_in([*SET_ASIDE, "refused"]), pl.col("rows") > 0)
    newest: dict[Slot, tuple[str, str, pl.DataFrame | None]] = {
        (feed, day): (object_key, each, None)
        for feed, day, object_key, each in counting
        .sort("available_from", "sequence")
        .select("feed", "day", "key", "delivery_id")
        .iter_rows()
    }
    for item in sorted(taken, key=lambda item: (item.available_from, name_order(item.found.key))):
        feed, slot = project.feeds[item.found.feed], (item.found.feed, item.found.day)
        adds = item.parts or item.correction != "replace"
        if adds or feed.is_snapshot or item.delivery_id in ids or item.records.is_empty():
            continue
        other, other_id, frame = newest.get(slot, (item.found.key, "", None))
        if other != item.found.key:
            before = _raw_keys(project, tables, slot, other_id) if frame is None else _protected_keys(feed, frame, key)
            own, before = (_keys(project, feed, rows) for rows in (_protected_keys(feed, item.records, key), before))
            shared = own.join(before, on=feed.key, how="semi").height
            if 2 * shared < min(own.height, before.height):
                refused.append(NotLanded(item.found, _why_parts(item.found, feed.path, shared, own.height, other)))
                continue
        newest[slot] = (item.found.key, item.delivery_id, item.records)
    wrong = {each.found.uri for each in refused}
    return [item for item in taken if item.found.uri not in wrong], refused


def _protected_keys(feed: Feed, records: pl.DataFrame, key: HashKey) -> pl.DataFrame:
    return protect(feed, records.select(feed.key), key, columns=feed.key)


def _keys(project: Project, feed: Feed, rows: pl.DataFrame) -> pl.DataFrame:
    """Return the distinct keys of rows, typed; `validate` says what is wrong with one that cannot be parsed."""
    typed = {name: schemas.typed(pl.col(name), feed.columns[name], feed.format, project.timezone) for name in feed.key}
    return rows.select(**typed).drop_nulls().unique()


def _raw_keys(project: Project, tables: Tables, slot: Slot, delivery: str) -> pl.DataFrame:
    """Return the keys of a delivery in the raw table; none if the table is gone."""
    name, (feed, day) = raw_table(project.name, slot[0]), slot
    if not tables.exists(name):
        return pl.DataFrame(schema=dict.fromkeys(project.feeds[feed].key, pl.String()))
    there = pl.col("day") == day, pl.col("delivery_id") == delivery
    return tables.scan(name).filter(*there).select(project.feeds[feed].key).collect()


def _why_parts(found: Found, path: str, shared: int, own: int, other: str) -> str:
    folder, slash, name = path.rpartition("/")
    parted = f"{folder}{slash}{name.replace('*', '{part}', 1)}" if "*" in name else "{part} where the names differ"
    return (
        f"{found.uri}: {shared} of its {own} keys are in {other}, which is for {found.day} too, so the two look "
        f"like parts of one day, and one would replace the other; declare them: feeds.{found.feed}.path: {parted} and "
        f"feeds.{found.feed}.parts: {{expect: 24}}, {{marker: _SUCCESS}} or at_cutoff; or remove one of the two"
    )
