"""The product's settings from the Airflow connections `nightly_*` (docs/configuration.md has the list).

This is the only place that makes settings from connections: for tasks, for containers (`tools/container.py`) and for
the product's command line (`dags/cli.py`), and that reads the addresses of messages. The address of MLflow's pages is
no setting of the product; `plugins/nightly_links` reads it.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowFailException, AirflowNotFoundException
from airflow.sdk.log import mask_secret
from pydantic import SecretStr

from include.core.outbox import ALERTS
from include.core.settings import DATABASE_OWNER_URL, DATABASE_URL, Settings

STORAGE = "nightly_storage"
"""The connection for S3. It is read only if one of the places is in S3."""

OWNER = "nightly_database_owner"
"""The connection of the login that owns the shared database. Only `migrate` reads it; without it, tasks' is used."""

PLACES = ("landing", "tables", "artifacts", "journal")


def resolve(run_id: str, git_commit: str, sources: Iterable[str] = ()) -> Settings:
    """Return the settings from the connections; `sources` are the connections to databases of feeds."""
    # As text, since pydantic would merge a dict with the variable in the environment.
    of_sources = json.dumps({name: _source_url(_get(name)) for name in sources})
    found: dict[str, Any] = {"storage_options": "{}", "sources": of_sources, **_read({})}
    settings = Settings(**found, run_id=run_id, git_commit=git_commit)
    # A task always knows the place of pages; settings without it are those of a shell, which asks the database.
    return settings.model_copy(update={"public_pages": settings.public_pages or settings.pages_beside_tables})


def find_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the `NIGHTLY_*` variables that `environment` lacks, with values from the connections.

    A connection is read only for a variable that is missing: after `. .local/env`, none is.
    """
    variables = {name: f"NIGHTLY_{name}".upper() for name in Settings.model_fields}
    given = {name: environment[variable] for name, variable in variables.items() if environment.get(variable)}
    found = _read(given)
    if "sources" not in given:
        found["sources"] = _all_sources()
    if "destinations" not in given and (addresses := find_destinations()):
        found["destinations"] = json.dumps(addresses)
    return {variables[name]: value for name, value in found.items() if value}


def find_notifying(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that `environment` lacks of what the watcher and the test of channels need."""
    found = {}
    if not environment.get(DATABASE_URL):
        with suppress(AirflowNotFoundException):
            found[DATABASE_URL] = find_database().get_secret_value()
    if not environment.get("NIGHTLY_DESTINATIONS"):
        found["NIGHTLY_DESTINATIONS"] = json.dumps(find_destinations())
    return found


def find_owner(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variable of the login that owns the shared database, unless it is set or there is no connection."""
    if environment.get(DATABASE_OWNER_URL):
        return {}
    with suppress(AirflowNotFoundException):
        return {DATABASE_OWNER_URL: _database_url(_get(OWNER))}
    return {}


def find_address(name: str) -> str | None:
    """Return the address of a connection for messages, None without it. Logs mask its secrets.

    Without `channel` in its extra it is the password; otherwise it is JSON, the extra with the password as `url`.
    """
    try:
        connection = Connection.get(name)
    except AirflowNotFoundException:
        return None
    address: str = connection.password or ""
    extra = connection.extra_dejson
    for secret in (address, _path_of(address), str(extra.get("secret") or "")):
        if len(secret) > 8:  # a mask of "/" would black out every log
            mask_secret(secret)
    return json.dumps({**extra, "url": address}) if "channel" in extra else address


def find_destinations() -> dict[str, str]:
    """Return the addresses of all connections that messages may go to, without those that do not exist."""
    from include.config.loading import load_model, load_project, load_routing, model_names, project_names

    names = {ALERTS, *(route.to for project in project_names() for route in load_routing(project).routes)}
    models = [load_model(name) for name in model_names()]
    names |= {model.champion_messages for model in models if model.champion_messages}
    names |= {action.to for model in models for action in model.actions}
    names |= {to for project in project_names() for to in load_project(project).after_publish}
    found = {name: find_address(name) for name in sorted(names)}
    return {name: address for name, address in found.items() if address is not None}


def find_database() -> SecretStr:
    """Return the URL of the shared database, without any other setting: messages need no more."""
    return SecretStr(_database_url(_get("nightly_database")))


def _path_of(address: str) -> str:
    try:
        return urlsplit(address).path
    except ValueError:
        return ""


def _all_sources() -> str | None:
    """Return the URLs of all projects' databases as JSON; only `extract` needs those that do not exist."""
    from include.config.loading import load_project, project_names

    urls = {}
    for name in sorted({name for project in project_names() for name in load_project(project).connections}):
        with suppress(AirflowNotFoundException):
            urls[name] = _source_url(_get(name))
    return json.dumps(urls) if urls else None


def uri_of(place: str) -> str:
    """Return the URI of one of PLACES."""
    return _uri(_get(f"nightly_{place}"))


def tracking_uri() -> str:
    """Return the URI of MLflow's database."""
    return _secret(_get("nightly_mlflow"))


def mlflow_pages() -> str | None:
    """Return the address of MLflow's pages, `ui_url` in the extra of its connection; None if there is none."""
    try:
        address = str(_get("nightly_mlflow").extra_dejson.get("ui_url") or "").rstrip("/")
    except AirflowNotFoundException:
        return None
    return address if address.startswith(("http://", "https://")) else None


def _read(given: Mapping[str, str]) -> dict[str, str | None]:
    """Return the settings of the connections as text, without those that are `given`."""
    found: dict[str, str | None] = {}
    for connection_id, readers in READERS.items():
        needed, *_ = readers
        if needed not in given:
            connection = _get(connection_id)
            found |= {name: read(connection) for name, read in readers.items() if name not in given}
    if "storage_options" not in given and _is_any_on_s3({**found, **given}):
        # As text, since pydantic would merge a dict with the variable in the environment.
        found["storage_options"] = json.dumps(storage_options())
    return found


def _is_any_on_s3(settings: Mapping[str, str | None]) -> bool:
    from include.io.storage import is_s3

    return any(is_s3(settings.get(place) or "") for place in (*PLACES, "exports", "public_pages"))


def _get(connection_id: str) -> Connection:
    try:
        connection: Connection = Connection.get(connection_id)
    except AirflowNotFoundException as error:
        text = f"there is no connection {connection_id}; docs/configuration.md says what it must contain"
        raise AirflowNotFoundException(text) from error
    return connection


def _uri(connection: Connection) -> str:
    uri = connection.extra_dejson.get("uri")
    if not uri:
        raise AirflowFailException(
            f'connection {connection.conn_id}: its extra must be {{"uri": "<folder or s3://…>"}}'
        )
    return str(uri)


def _secret(connection: Connection) -> str:
    if not connection.password:
        raise AirflowFailException(f"connection {connection.conn_id}: its password must be the secret")
    return connection.password


def _extra(key: str) -> Callable[[Connection], str | None]:
    """Return a reader of an optional value of a connection's extra."""
    return lambda connection: connection.extra_dejson.get(key)


def _database_url(connection: Connection) -> str:
    """Return the URL as SQLAlchemy writes it; a host that is a folder is the folder of PostgreSQL's Unix socket."""
    from sqlalchemy import URL

    socket = connection.host if connection.host and connection.host.startswith("/") else None
    query = {key: str(value) for key, value in connection.extra_dejson.items()}
    url = URL.create(
        "postgresql",
        username=connection.login,
        password=connection.password or None,
        host=None if socket else connection.host,
        port=connection.port,
        database=connection.schema,
        query={**query, "host": socket} if socket else query,
    )
    return url.render_as_string(hide_password=False)


def _source_url(connection: Connection) -> str:
    """Return the URL of a database of feeds as SQLAlchemy writes it.

    The type of the connection is the dialect; `sqlalchemy_scheme` in its extra names another one, such as
    `mssql+pymssql`. Of SQLite, the host is the path of the file.
    """
    from sqlalchemy import URL

    if connection.conn_type in ("postgres", "postgresql"):
        return _database_url(connection)
    extra = {key: str(value) for key, value in connection.extra_dejson.items()}
    scheme = extra.pop("sqlalchemy_scheme", str(connection.conn_type))
    if scheme == "sqlite":
        return URL.create("sqlite", database=connection.host).render_as_string()
    url = URL.create(
        scheme,
        username=connection.login,
        password=connection.password or None,
        host=connection.host,
        port=connection.port,
        database=connection.schema,
        query=extra,
    )
    return url.render_as_string(hide_password=False)


def storage_options() -> dict[str, str]:
    """Return the storage options for S3; a role is resolved to its keys.

    If a connection has no keys, profile or role, each library finds and renews the keys of the machine.
    """
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook

    hook = S3Hook(aws_conn_id=STORAGE)
    config = hook.conn_config
    options = {"AWS_ENDPOINT_URL": config.get_service_endpoint_url("s3"), "AWS_REGION": hook.region_name}
    if config.aws_access_key_id or config.profile_name or config.role_arn:
        access_key, secret_key, token = hook.get_credentials()[:3]
        keys = {"AWS_ACCESS_KEY_ID": access_key, "AWS_SECRET_ACCESS_KEY": secret_key, "AWS_SESSION_TOKEN": token}
        for value in filter(None, keys.values()):
            mask_secret(value)
        options |= keys
    return {name: value for name, value in options.items() if value}


READERS: dict[str, dict[str, Callable[[Connection], str | None]]] = {
    "nightly_landing": {"landing": _uri},
    "nightly_tables": {
        "tables": _uri,
        "catalog": _extra("catalog"),
        "exports": _extra("exports"),
        "public_pages": _extra("public_pages"),
    },
    "nightly_artifacts": {"artifacts": _uri},
    "nightly_journal": {"journal": _uri},
    "nightly_database": {"database_url": _database_url},
    "nightly_mlflow": {"mlflow_tracking_uri": _secret, "mlflow_registry_uri": _extra("registry_uri")},
    "nightly_hash_key": {"hash_key": _secret},
}
"""The settings in each connection, with the functions that read them. The first is required, others are optional."""
