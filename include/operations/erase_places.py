"""The places in which rows of erased persons are searched and removed, and the order of it.

Things that are derived go first and raw tables last, because from the others the persons' entities are known. So a kill
at any place is made good by running it again. Who may ask for it, and what is said about it, is in `erase.py`.
"""

import logging
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import cast

import polars as pl

from include.config.loading import model_names, project_names
from include.core.erasure import Erasures, Person, identifiers, without_erased
from include.core.errors import UnreadableError
from include.core.feeds import HORIZON
from include.core.horizons import with_horizon
from include.core.journal import Entry, Known
from include.core.names import clean_table, features_table, quarantine_table, raw_table, scores_table
from include.core.personal import HashKey
from include.core.project import Project
from include.core.settings import Settings
from include.io import apart, artifacts, postgres, report_files, storage
from include.io.erased_files import TableFiles
from include.io.hash_key import read_hash_key
from include.io.journal import export, read_journal
from include.io.landing import Found, Landing
from include.io.tables import Tables
from include.steps.objects import is_landed

log = logging.getLogger(__name__)

MIN_SEARCHED = 6
"""Shorter identifiers are not searched as text: they would be found in numbers and names of others."""


@dataclass
class Erasure:
    """What was found, or removed, of some persons.

    Attributes:
        sequences: the entries of the journal.
        rows: number of rows by place.
        originals: files in landing that have rows of the persons, by what became of them.
        left: what is left and this command cannot remove, with what to do.
        advice: what else to know or to do.
    """

    sequences: list[int] = field(default_factory=list)
    rows: Counter[str] = field(default_factory=Counter)
    originals: dict[str, str] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    advice: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """Return whether no place has anything of the persons."""
        return not (+self.rows or self.originals or self.left)


@dataclass(frozen=True)
class Layers:
    """The Delta tables of a project: those with a row for each entity and run date, and those of feeds."""

    derived: tuple[str, ...]
    feeds: tuple[str, ...]


@dataclass(frozen=True)
class ErasureJob:
    """An erasure: whom, and where.

    Attributes:
        project: the project.
        settings: places and connections.
        key: the hash key.
        plain: identifiers that were given.
        hashes: their hashes, or those of all who were erased before.
        ever: these, and those before each rotation, which texts and models may still have.
        known: what the journal says.
        files: the files of Delta tables.
        models: names of models, also of those that are not declared any more.
    """

    project: Project
    settings: Settings
    key: HashKey
    plain: tuple[str, ...]
    hashes: tuple[str, ...]
    ever: tuple[str, ...]
    known: Known
    files: TableFiles
    models: frozenset[str]

    @classmethod
    def of(cls, project: Project, settings: Settings, plain: Sequence[str]) -> "ErasureJob":
        """Return the erasure of the persons with these identifiers; without any, of all who were erased before."""
        key, known = read_hash_key(settings, project.name), read_journal(settings, project)
        if plain:
            hashes, ever = (
                [key.hashed(text) for text in plain],
                [each for text in plain for each in key.each_hash(text)],
            )
        else:
            hashes, ever = [*known.erased.under(key).hashes], known.erased.ever(key)
        unique = tuple(dict.fromkeys(hashes)), tuple(dict.fromkeys(ever))
        models = frozenset([*model_names(project.name), *postgres.erasures.read_models(settings, project.name)])
        return cls(project, settings, key, tuple(plain), *unique, known, TableFiles(settings), models)

    @property
    def person(self) -> Person:
        """How rows of feeds are recognised."""
        return Person(self.ever, self.key)

    def tables(self) -> Layers:
        """Return the tables that exist."""
        name, there = self.project.name, self.files.names()
        features = [
            each
            for each in there
            if each == features_table(name) or each.startswith(f"{features_table(name)}_fraction_")
        ]
        scores = {scores_table(model, view) for model in self.models for view in ("point_in_time", "latest")}
        begins = tuple(made(name, "") for made in (quarantine_table, clean_table, raw_table))
        of_feeds = [each for begin in begins for each in there if each.startswith(begin)]
        return Layers((*features, *(each for each in there if each in scores)), tuple(of_feeds))

    def enter(self, *, by: str, why: str) -> list[int]:
        """Enter persons into the journal who are not there yet; return the numbers of all their entries."""
        before = self.known.erased.under(self.key).hashes
        rows = {hashed: self._rows_of_deliveries(hashed) for hashed in self.hashes if hashed not in before}
        with postgres.journal.write_journal(self.settings, self.project.name) as writer:
            there = writer.known().erased.under(self.key).hashes
            new = {hashed: counted for hashed, counted in rows.items() if hashed not in there}
            writer.add([Entry.erasure(h, self.key.fingerprint, counted, by=by, why=why) for h, counted in new.items()])
            numbers = writer.known().erased.under(self.key).hashes
        export(self.settings, self.project.name)
        return sorted(numbers[hashed] for hashed in self.hashes)

    def _rows_of_deliveries(self, hashed: str) -> dict[str, int]:
        """Return how many rows each delivery has in the newest version of the raw tables that only this person has."""
        earlier = self.hashes[: self.hashes.index(hashed)]  # a row of two persons is counted once
        others = Person((*self.known.erased.under(self.key).hashes, *earlier), self.key)
        counts = Counter[str]()
        for rows in self._raw(Person((hashed,), self.key)):
            counts.update(rows.filter(~others.rows_of(rows))["delivery_id"])
        return dict(counts)

    def _raw(self, person: Person) -> Iterator[pl.DataFrame]:
        """Yield the rows of persons in the newest version of the raw tables, a day at a time."""
        tables, begin = Tables(self.settings), raw_table(self.project.name, "")
        for table in (each for each in self.files.names() if each.startswith(begin)):
            for day in tables.days(table):
                rows = tables.scan(table).filter(pl.col("day") == day).collect()
                yield rows.filter(person.rows_of(rows))

    def remove(self, done: Erasure, owner: Settings) -> None:
        """Remove the persons, in an order in which each kill is made good by the next run."""
        layers, first = self.tables(), done.sequences[0]
        person, lines = self._with_entities(), self._lines()
        known, reports = self._known_outcomes(), self._reports()
        derived = postgres.erasures.erase(
            owner, self.project, self.models, person, first, known, lines, self._prepared(person), reports
        )
        done.rows.update(derived)
        done.rows.update(self._remove_pages(lines))
        for page in reports:
            report_files.remove_report(self.settings, page)
            done.rows["reports of periods"] += 1
            log.info("removed: %s and its PDF; `cli report` makes them again", page)
        for table in layers.derived:
            self._remove_from(table, person, done, owner)
        for table in layers.feeds:
            self._remove_from(table, self.person, done, owner)

    def _remove_from(self, table: str, person: Person, done: Erasure, owner: Settings) -> None:
        if count := self.files.erase(table, person):
            done.rows[table] += count
            postgres.erasures.record(owner, self.project.name, done.sequences[0], {table: count})

    def look(self, found: Erasure) -> None:
        """Count what is there of the persons, and name what cannot be removed."""
        layers, person = self.tables(), self._with_entities()
        found.rows.update(
            postgres.erasures.count(self.settings, self.project, self.models, person, self._known_outcomes())
        )
        for table in (*layers.derived, *layers.feeds):
            of_table = person if table in layers.derived else self.person
            count = sum(rows.height for _, rows in self.files.rows(table, of_table))
            found.rows[table] += count
            if not count:
                found.rows.update(Counter(f"the log of {table}" for _ in self.files.traces(table, self.person)))
        found.rows["reports of periods"] += len(self._reports())
        found.left += [*self._left_in_stores(), *self._left_in_databases()]
        found.advice += self._advice()

    def look_at_originals(self, found: Erasure, *, remove: bool) -> None:
        """Name suppliers' files that have rows of the persons, and remove those that are landed if asked to."""
        landing = Landing(self.project, self.settings)
        listing = landing.look(dict.fromkeys(self.project.file_feeds))
        seen = postgres.journal.read_seen_objects(self.settings, self.project.name)
        erased = Erasures(dict.fromkeys(self.hashes, 0), dict.fromkeys(self.hashes, self.key.fingerprint))
        for original in listing.found:
            try:
                if not self._is_in(original, landing, erased):
                    continue
            except UnreadableError as error:
                found.originals[original.uri] = f"it cannot be searched: {error}; look into it by hand"
                continue
            landed = is_landed(seen.get(original.key), original)
            if remove and landed:
                for path in (original.key, *([f"{original.key}.json"] if original.sidecar else [])):
                    landing.fs.rm_file(f"{landing.root}/{path}")
                found.rows["files in landing"] += 1
                log.info("removed from landing: %s", original.uri)
            else:
                found.originals[original.uri] = (
                    "it can be removed: --remove-originals" if landed else "it is not landed yet; land it first"
                )

    def _is_in(self, original: Found, landing: Landing, erased: Erasures) -> bool:
        """Return whether a file has rows of the persons, or their identifier, if it cannot be read as declared."""
        feed = self.project.feeds[original.feed]
        if original.size > feed.limits.max_bytes:
            raise UnreadableError(f"{original.size:,} bytes are more than the limit of its feed")
        content = landing.read(original)
        try:
            records = apart.read(feed.format, content, original.key, feed.layout).records
            return without_erased(feed, records, erased, self.key).height < records.height
        except (Exception, pl.exceptions.PanicException):  # noqa: BLE001 (whatever a wrong file raises)
            texts = list(artifacts.texts_of(content))
            return any(needle in text for text in texts for needle in self._searched())

    def _searched(self) -> list[bytes]:
        return [text.encode() for text in self.plain if len(text) >= MIN_SEARCHED]

    def _with_entities(self) -> Person:
        """Return how rows of entities are recognised: those made of rows of the persons in the feed of the entity."""
        feed = self.project.feeds[self.project.entity.feed]
        pairs = self._pairs([self.project.entity.feed])
        moved = {(day + timedelta(days=feed.delay_days), entity) for day, entity in pairs}
        return Person(self.ever, self.key, frozenset(moved))

    def _known_outcomes(self) -> frozenset[tuple[date, str]]:
        return self._pairs({outcome.feed for outcome in self.project.outcomes.values()})

    def _pairs(self, feeds: Collection[str]) -> frozenset[tuple[date, str]]:
        """Return day and `entity_id` of the persons' rows; not those whose newest row is another person's."""
        pairs, tables = set[tuple[date, str]](), Tables(self.settings)
        for name in feeds:
            table = clean_table(self.project.name, name)
            if table not in self.files.names():
                continue
            of_days: dict[date, set[str]] = {}
            for path, rows in self.files.rows(table, self.person):
                if "entity_id" in rows.columns:
                    day = date.fromisoformat(path.rpartition("day=")[2].partition("/")[0])
                    of_days.setdefault(day, set()).update(rows["entity_id"].drop_nulls())
            for day, ids in of_days.items():
                now = tables.scan(table).filter(pl.col("day") == day, pl.col("entity_id").is_in([*ids])).collect()
                others = set(now.filter(~self.person.rows_of(now))["entity_id"])
                pairs |= {(day, each) for each in ids - others}
        return frozenset(pairs)

    def _lines(self) -> dict[str, set[int]]:
        """Return the lines of each delivery that are the persons'."""
        lines = dict[str, set[int]]()
        for rows in self._raw(self.person):
            for delivery, line in rows.select("delivery_id", "_row").iter_rows():
                lines.setdefault(delivery, set()).add(line)
        return lines

    def _remove_pages(self, lines: Mapping[str, object]) -> Counter[str]:
        """Remove the pages about deliveries with rows of the persons: `validate` writes them again."""
        listed, removed = self.known.deliveries.filter(pl.col("delivery_id").is_in(list(lines))), Counter[str]()
        for feed, day, delivery in listed.select("feed", "day", "delivery_id").iter_rows():
            path = artifacts.page_of(self.project.name, feed, day, delivery)
            removed["pages about deliveries"] += artifacts.remove(self.settings, path)
        return +removed

    def _reports(self) -> list[str]:
        """Return the pages of reports that have a hash of the persons, as a sentence about a slice may."""
        return report_files.pages_having(self.settings, self.project.name, self.ever)

    def _prepared(self, person: Person) -> dict[tuple[date, str], list[int]]:
        """Return how many rows of features of each horizon the prepared days with rows of the persons will have."""
        table, tables = features_table(self.project.name), Tables(self.settings)
        counts = dict[tuple[date, str], list[int]]()
        if table not in self.files.names():
            return counts
        days = {
            date.fromisoformat(path.rpartition("day=")[2].partition("/")[0])
            for path, _ in self.files.rows(table, person)
        }
        for day, view, version in postgres.erasures.read_features_versions(
            self.settings, self.project.name, table, days
        ):
            of_day = pl.col("day") == day, pl.col("data_view") == view
            rows = tables.scan(table, version).filter(*of_day).collect()
            kept = with_horizon(rows.filter(~person.rows_of(rows, day)).lazy()).collect()[HORIZON]
            counts[day, view] = [int((kept == n).sum()) for n in range(int(cast(int, kept.max() or 0)) + 1)]
        return counts

    def _left_in_stores(self) -> Iterator[str]:
        needles = [*(each.encode() for each in self.ever), *self._searched()]
        for place, uri in (("artifacts", self.settings.artifacts), ("journal export", self.settings.journal)):
            filesystem, root = storage.filesystem(self.settings, uri)
            wanted = needles if place == "artifacts" else self._searched()  # the proof has the hash
            if wanted and filesystem.exists(root):
                for path in artifacts.having(filesystem, root, wanted):
                    yield f"{place}: {path}: if it is of a model, make a new version, then delete the old one in MLflow"

    def _left_in_databases(self) -> Iterator[str]:
        shared = self.settings.database_url.get_secret_value()
        mlflow = self.settings.mlflow_tracking_uri.get_secret_value()
        plain = [text for text in self.plain if len(text) >= MIN_SEARCHED]
        entities = postgres.erasures.project_entities(self.project).name
        # the proof has the hash: an entry of the journal, which is in a block later
        counted = {"predictions", "outcomes", entities, "journal", "journal_blocks"}
        for place, url in (("shared database", shared), ("MLflow's database", mlflow)):
            if not url.startswith("postgres"):
                continue
            found = Counter(postgres.erasures.search(url, self.ever, besides=counted))
            found += Counter(postgres.erasures.search(url, plain)) if plain else Counter()
            for table, count in sorted(found.items()):
                yield f"{place}: {count} rows of {table} have the identifier or its hash in a text"

    def _advice(self) -> Iterator[str]:
        if not self.settings.mlflow_tracking_uri.get_secret_value().startswith("postgres"):
            yield "MLflow is a server here: its database was not searched, nor artifacts that it keeps elsewhere"
        for model, versions in postgres.erasures.read_versions(self.settings, self.models).items():
            yield (
                f"{model}: versions {', '.join(map(str, versions))} were trained before; a model has no row of a "
                "person, but was fitted on them. For one without them, when the next day is prepared, type: "
                f"python -m include.cli gate --model {model} --day DAY, then python -m include.cli promote --model "
                f"{model} --version N --from-day DAY --by NAME --why REASON"
            )
        if others := sorted({*project_names()} - {self.project.name}):
            names = ", ".join(others)
            yield f"other projects keep their rows; type the command for each that may have the person: {names}"
        without = [name for name, feed in self.project.feeds.items() if not identifiers(feed)]
        if without:
            yield f"feeds without a column of identifiers, in which nobody can be recognised: {', '.join(without)}"
