"""The options with which fsspec, delta-rs, polars and MLflow reach S3.

They are declared once, in `Settings.storage_options`, by delta-rs's names. What is not declared there, each library
looks up as AWS's own tools do: in the environment, a profile, or the role of the machine. Folders need no options.
"""

from collections.abc import Mapping
from typing import Any

import fsspec

from include.core.errors import ConfigError, nearest
from include.core.settings import Settings

ENDPOINT, KEY, SECRET = "AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"
TOKEN, REGION, ALLOW_HTTP = "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_ALLOW_HTTP"
OPTIONS = (ENDPOINT, KEY, SECRET, TOKEN, REGION, ALLOW_HTTP)

# An object is written only if none exists: of two writers that commit the same version of a table, one is refused.
CONDITIONAL_PUT = {"AWS_CONDITIONAL_PUT": "etag"}


def is_s3(uri: str) -> bool:
    """Return whether a URI is on S3; otherwise it is a folder, or a file system of fsspec that needs no options."""
    return uri.startswith("s3://")


def filesystem(settings: Settings, uri: str) -> tuple[Any, str]:
    """Return fsspec's file system of a URI, and the path there."""
    if not is_s3(uri):
        return fsspec.url_to_fs(uri)  # type: ignore[no-any-return]
    given = _options(settings)
    client = {"endpoint_url": given.get(ENDPOINT), "region_name": given.get(REGION)}
    return fsspec.url_to_fs(  # type: ignore[no-any-return]
        uri,
        key=given.get(KEY),
        secret=given.get(SECRET),
        token=given.get(TOKEN),
        client_kwargs={name: value for name, value in client.items() if value},
        use_listings_cache=False,  # files that another process wrote must be found
        max_concurrency=1,  # parts of one object at a time: with more, each read requests the object's size first
    )


def delta_options(settings: Settings, uri: str) -> dict[str, str]:
    """Return the `storage_options` of delta-rs and polars for a table below a URI."""
    if not is_s3(uri):
        return {}
    given = _options(settings)
    plain = {ALLOW_HTTP: "true"} if given.get(ENDPOINT, "").startswith("http://") else {}
    return {**CONDITIONAL_PUT, **plain, **given}


def mlflow_variables(settings: Settings) -> Mapping[str, str | None]:
    """Return the environment variables by which MLflow reaches `settings.artifacts`; None means unset.

    MLflow takes these options only from the environment.
    """
    if not is_s3(settings.artifacts):
        return {}
    given = _options(settings)
    variables: dict[str, str | None] = {"MLFLOW_S3_ENDPOINT_URL": given[ENDPOINT]} if ENDPOINT in given else {}
    if REGION in given:
        variables["AWS_DEFAULT_REGION"] = given[REGION]
    if KEY in given:  # these belong together: a token from the environment would not match the key
        variables |= {name: given.get(name) for name in (KEY, SECRET, TOKEN)}
    return variables


def _options(settings: Settings) -> dict[str, str]:
    """Return the options in plain text.

    Raises:
        ConfigError: an option has a name that not all libraries know.
    """
    for name in settings.storage_options:
        if name not in OPTIONS:
            raise ConfigError(f"storage_options: unknown option {name!r}{nearest(name, OPTIONS)}")
    return {name: value.get_secret_value() for name, value in settings.storage_options.items()}
