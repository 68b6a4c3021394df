"""A shop whose prices are rows of a database, read by a project made from `drugstore`."""

import select
import socket
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import date, timedelta
from pathlib import Path
from threading import Thread
from typing import Any

import sqlalchemy as sa
from pydantic import SecretStr

from include.core.settings import Settings

FIRST = date(2024, 11, 4)
AS_OF = "SELECT item_id, price, valid_on, changed FROM prices WHERE valid_on = :day::date AND changed <= :as_of"
PLAIN = "SELECT item_id, price, valid_on, changed FROM prices WHERE valid_on = :day"
PASSWORD = "planted-Passw0rd"


def prices(query: str = PLAIN, **keys: Any) -> Callable[[dict[str, Any]], None]:
    """Return a change of the declaration of `drugstore`: its sales are prices, the rows of a query."""

    def change(declared: dict[str, Any]) -> None:
        source = {"kind": "sql", "connection": "shop_db", "query": query, **keys.pop("source", {})}
        feed = {
            "source": source,
            "live_from": FIRST,
            "key": ["item_id"],
            "day_column": "valid_on",
            "lookback_days": 2,
            "columns": {
                "item_id": {"type": "string", "class": "public"},
                "price": {"type": "double", "class": "public"},
                "valid_on": {"type": "date", "class": "public"},
                "changed": {"type": "timestamp", "class": "public"},
            },
            **keys,
        }
        declared["first_day"] = declared["feeds"]["plan"]["live_from"] = FIRST - timedelta(days=1)
        declared["feeds"]["prices"] = {name: value for name, value in feed.items() if value is not None}

    return change


def settings_of(settings: Settings, url: str) -> Settings:
    return settings.model_copy(update={"sources": {"shop_db": SecretStr(url)}})


class PostgreSQL:
    """The prices in a schema of their own of the test's shared database."""

    def __init__(self, settings: Settings) -> None:
        self.url = sa.make_url(settings.database_url.get_secret_value())
        self.engine = sa.create_engine(self.url.set(drivername="postgresql+psycopg2"), poolclass=sa.NullPool)
        self.run(
            "CREATE SCHEMA shop; SET search_path TO shop; CREATE TABLE prices "
            "(item_id text, price numeric(12, 3), valid_on date, changed timestamptz)"
        )
        options = {**self.url.query, "options": "-csearch_path=shop"}
        self.settings = settings_of(settings, self.url.set(query=options).render_as_string(hide_password=False))

    def run(self, statement: str) -> None:
        with self.engine.begin() as connection:
            connection.exec_driver_sql(statement)

    def value(self, query: str) -> Any:
        """Return the only value of a query."""
        with self.engine.connect() as connection:
            return connection.exec_driver_sql(query).scalar()

    def put(self, *rows: tuple[str, str, date, str]) -> None:
        for item, price, day, changed in rows:
            self.run(f"INSERT INTO shop.prices VALUES ('{item}', {price}, '{day}', '{changed}')")

    def remove(self, day: date) -> None:
        self.run(f"DELETE FROM shop.prices WHERE valid_on = '{day}'")

    def put_days(self, days: Iterable[date]) -> None:
        """Two prices of each day, written the evening before."""
        for day in days:
            before = f"{day - timedelta(days=1)} 18:00+00"
            self.put(("i1", "1.5", day, before), ("i2", "2.25", day, before))


@contextmanager
def cut(shop: PostgreSQL, after_bytes: int) -> Iterator[Settings]:
    """Yield settings with a connection that breaks after the server has sent so many bytes."""
    [path] = Path(str(shop.url.query["host"])).glob(".s.PGSQL.*[0-9]")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        Thread(target=_pass_on, args=(listening, path, after_bytes), daemon=True).start()
        url = sa.make_url(shop.settings.sources["shop_db"].get_secret_value())
        query = {name: value for name, value in url.query.items() if name != "host"}
        url = url.set(host="127.0.0.1", port=listening.getsockname()[1], query=query)
        yield settings_of(shop.settings, url.render_as_string(hide_password=False))


def _pass_on(listening: socket.socket, path: Path, after_bytes: int) -> None:
    client, _ = listening.accept()
    server = socket.socket(socket.AF_UNIX)
    server.connect(str(path))
    with client, server, suppress(BrokenPipeError):  # the client is done
        sent = 0
        while sent < after_bytes:
            for ready in select.select([client, server], [], [])[0]:
                content = ready.recv(4096)
                (server if ready is client else client).sendall(content)
                sent += len(content) if ready is server else 0


class Sqlite:
    """The same prices in a file of SQLite, which has no types of times."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.path = folder / "shop.sqlite"
        self.settings = settings_of(settings, f"sqlite:///{self.path}")
        with sqlite3.connect(self.path) as connection:
            connection.execute("CREATE TABLE prices (item_id TEXT, price REAL, valid_on TEXT, changed TEXT)")

    def put(self, *rows: tuple[str, str, date, str]) -> None:
        with sqlite3.connect(self.path) as connection:
            values = [(item, float(price), str(day), changed) for item, price, day, changed in rows]
            connection.executemany("INSERT INTO prices VALUES (?, ?, ?, ?)", values)
