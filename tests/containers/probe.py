"""Try inside a container what it can reach, read and write; print it as JSON. `test_access.py` compares it.

The script runs with the files and the network of the container and nothing else: it needs no module of the tests.
"""

import json
import os
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

CONNECT_SECONDS = 3
SECRETS = Path("/run/secrets")

TABLES = {"airflow": "dag", "celery": "celery_taskmeta", "mlflow": "experiments", "mlflow_pages": "users"} | {
    "nightly": "locks"
}
"""A table of each database."""


def answers(address: tuple[str, int]) -> bool:
    """Return whether something accepts a connection."""
    with suppress(OSError), socket.create_connection(address, timeout=CONNECT_SECONDS):
        return True
    return False


def reached(targets: dict[str, list[tuple[str, int]]]) -> list[str]:
    """Return the targets of which at least one address answers."""
    with ThreadPoolExecutor(64) as pool:
        found = {name: [pool.submit(answers, (host, port)) for host, port in targets[name]] for name in targets}
    return [name for name, tries in found.items() if any(each.result() for each in tries)]


def databases() -> dict[str, str]:
    """Return the most that a login of the password file can do in each database, by rolled-back statements."""
    import psycopg2

    logins = {line.split(":")[3] for line in (SECRETS / "pgpass").read_text(encoding="utf-8").split()}
    levels = {
        "reads": "SELECT FROM {} LIMIT 1",
        "writes": "INSERT INTO {0} SELECT * FROM {0} WHERE false",
        "changes tables": "CREATE TABLE probe ()",
    }
    found: dict[str, str] = {}
    for database, table in TABLES.items():
        for login in sorted(logins):
            try:
                connection = psycopg2.connect(host="postgres", user=login, dbname=database)
            except psycopg2.OperationalError:
                continue
            for level, statement in levels.items():
                with suppress(psycopg2.errors.InsufficientPrivilege), connection.cursor() as cursor:
                    cursor.execute(statement.format(table))
                    if database not in found or list(levels).index(found[database]) < list(levels).index(level):
                        found[database] = level
                connection.rollback()
            connection.close()
    return found


def keys() -> tuple[str, str] | None:
    """Return the most powerful keys of the store in the container's files: root's, or those of its connection."""
    with suppress(FileNotFoundError):
        access, secret = (
            (SECRETS / f"store_{name}_key").read_text(encoding="utf-8").strip() for name in ("access", "secret")
        )
        return access, secret
    with suppress(FileNotFoundError, KeyError):
        storage = json.loads((SECRETS / "connections.json").read_text(encoding="utf-8"))["nightly_storage"]
        return storage["login"], storage["password"]
    return None


def rights(access: str, secret: str, endpoint: str, places: dict[str, str]) -> dict[str, list[str]]:
    """Return what one login can do in each place of the store, where the object `probe` exists."""
    import boto3
    from botocore.exceptions import ClientError

    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=access,
        aws_secret_access_key=secret,
    )
    found: dict[str, list[str]] = {}
    own = f"probe-put-{socket.gethostname()}"  # other containers try at the same time
    for place, uri in places.items():
        bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        prefix = f"{prefix}/" if prefix else ""
        tries = {
            "list": lambda b=bucket, p=prefix: client.list_objects_v2(Bucket=b, Prefix=p, MaxKeys=1),
            "read": lambda b=bucket, p=prefix: client.get_object(Bucket=b, Key=f"{p}probe"),
            "put": lambda b=bucket, p=prefix: client.put_object(Bucket=b, Key=f"{p}{own}", Body=b""),
            "delete": lambda b=bucket, p=prefix: client.delete_object(Bucket=b, Key=f"{p}{own}"),
        }
        for right, attempt in tries.items():
            try:
                attempt()
            except ClientError as error:
                if error.response["Error"]["Code"] != "AccessDenied":
                    raise
            else:
                found.setdefault(place, []).append(right)
    return found


def main() -> None:
    """Print what the container of this process can do."""
    asked = json.loads(sys.argv[1])
    found: dict[str, object] = {"reaches": reached(asked["targets"]), "user": os.geteuid()}
    with suppress(FileNotFoundError):
        found["databases"] = databases()
    if (pair := keys()) and (SECRETS / "connections.json").exists():  # the store itself has no client
        found["store"] = rights(*pair, "http://store:7070", asked["places"])
    print(json.dumps(found))  # noqa: T201


if __name__ == "__main__":
    main()
