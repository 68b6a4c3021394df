"""Settings reach another process through its environment variables, and secrets are shown nowhere."""

import os

import pytest

from include.core.settings import DATABASE_OWNER_URL, Settings

REQUIRED = {
    "NIGHTLY_LANDING": "s3://nightly/landing",
    "NIGHTLY_TABLES": "s3://nightly/tables",
    "NIGHTLY_ARTIFACTS": "s3://nightly/artifacts",
    "NIGHTLY_JOURNAL": "s3://nightly/journal",
    "NIGHTLY_DATABASE_URL": "postgresql://nightly:guarded@postgres/nightly",
    "NIGHTLY_MLFLOW_TRACKING_URI": "postgresql://mlflow:guarded@postgres/mlflow",
    "NIGHTLY_HASH_KEY": "guarded",
    "NIGHTLY_STORAGE_OPTIONS": '{"AWS_ACCESS_KEY_ID": "guarded", "AWS_REGION": "eu-west-1"}',
    "NIGHTLY_SOURCES": '{"shop_db": "postgresql://reader:guarded@shop/prices"}',
    "NIGHTLY_DESTINATIONS": '{"nightly_alerts": "https://hooks.example.org/guarded"}',
    "NIGHTLY_RUN_ID": "by-hand",
    "NIGHTLY_GIT_COMMIT": "0123456789ab",
}
OPTIONAL = {
    "NIGHTLY_CATALOG": "main.nightly",
    "NIGHTLY_EXPORTS": "s3://nightly-exports",
    "NIGHTLY_PUBLIC_PAGES": "s3://nightly-pages",
    "NIGHTLY_MLFLOW_REGISTRY_URI": "databricks-uc",
}


@pytest.mark.parametrize("given", [REQUIRED, REQUIRED | OPTIONAL])
def test_variables_give_another_process_the_same_settings(
    given: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("NIGHTLY_")]:
        monkeypatch.delenv(name)
    for name, text in given.items():
        monkeypatch.setenv(name, text)
    settings = Settings()
    assert settings.variables() == given
    assert "guarded" not in repr(settings)
    fields = {f"NIGHTLY_{name}".upper() for name in Settings.model_fields}
    assert fields == REQUIRED.keys() | OPTIONAL.keys(), "add the new setting to this test"


def test_the_owner_of_the_database_is_no_setting_of_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in REQUIRED.items():
        monkeypatch.setenv(name, text)
    monkeypatch.delenv(DATABASE_OWNER_URL, raising=False)
    assert Settings().as_owner() == Settings()
    monkeypatch.setenv(DATABASE_OWNER_URL, "postgresql://owner:guarded@postgres/nightly")
    settings = Settings()
    assert settings.as_owner().database_url.get_secret_value() == "postgresql://owner:guarded@postgres/nightly"
    assert "owner" not in str(settings.variables())
    assert "guarded" not in repr(settings.as_owner())
