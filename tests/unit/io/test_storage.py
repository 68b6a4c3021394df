"""Access to S3: which options each library gets."""

import json
import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from include.core.errors import ConfigError
from include.core.settings import Settings
from include.io import storage
from include.io.registry import Registry
from tests.landing import places

OPTIONS = {
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_SESSION_TOKEN": "token",
    "AWS_REGION": "eu-west-1",
    "AWS_ENDPOINT_URL": "http://127.0.0.1:9000",
}


def settings_with(options: dict[str, str] | str) -> Settings:
    moved = {"artifacts": "s3://bucket/artifacts", "mlflow_tracking_uri": "http://127.0.0.1:1"}
    return Settings.model_validate(places(Path("/somewhere")).model_dump() | moved | {"storage_options": options})


def test_local_folders_get_no_options() -> None:
    settings = settings_with(OPTIONS)
    assert storage.delta_options(settings, "/tables") == {}
    assert storage.filesystem(settings, "/tables")[0].storage_options == {}
    assert storage.mlflow_variables(settings.model_copy(update={"artifacts": "/artifacts"})) == {}


def test_storage_options_may_be_text_as_in_a_databricks_secret() -> None:
    assert settings_with(json.dumps(OPTIONS)).storage_options == settings_with(OPTIONS).storage_options
    with pytest.raises(ValidationError) as caught:
        settings_with('{"AWS_SECRET_ACCESS_KEY": "secret"')
    assert "secret" not in str(caught.value)


def test_concurrent_writes_are_safe_with_any_options() -> None:
    assert storage.delta_options(settings_with({}), "s3://bucket/tables") == {"AWS_CONDITIONAL_PUT": "etag"}
    given = storage.delta_options(settings_with(OPTIONS), "s3://bucket/tables")
    assert given == {**OPTIONS, "AWS_CONDITIONAL_PUT": "etag", "AWS_ALLOW_HTTP": "true"}
    tls = storage.delta_options(settings_with({"AWS_ENDPOINT_URL": "https://minio"}), "s3://bucket/tables")
    assert "AWS_ALLOW_HTTP" not in tls


def test_mlflow_gets_only_keys_that_belong_together() -> None:
    without_token = {name: value for name, value in OPTIONS.items() if name != "AWS_SESSION_TOKEN"}
    assert storage.mlflow_variables(settings_with(without_token)) == {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_SESSION_TOKEN": None,
        "AWS_DEFAULT_REGION": "eu-west-1",
        "MLFLOW_S3_ENDPOINT_URL": "http://127.0.0.1:9000",
    }
    assert storage.mlflow_variables(settings_with({})) == {}


def test_the_environment_is_restored_after_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of somebody else")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    before = dict(os.environ)
    with Registry(settings_with({**OPTIONS, "AWS_SESSION_TOKEN": "ours"})).connection.reached():
        assert os.environ["AWS_SESSION_TOKEN"] == "ours"
        assert os.environ["AWS_ACCESS_KEY_ID"] == "key"
    assert dict(os.environ) == before


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'AWS_SECRET_KEY'.*did you mean 'AWS_SECRET_ACCESS_KEY'") as caught:
        storage.delta_options(settings_with({"AWS_SECRET_KEY": "hidden"}), "s3://bucket/tables")
    assert "hidden" not in str(caught.value)
