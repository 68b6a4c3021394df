"""Where `cli pull` reads: the places and the login of another installation, from `NIGHTLY_PRODUCTION_*` variables."""

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from include.core.settings import Settings


class Production(BaseSettings):
    """What is needed to read the prepared data of another installation. Secrets never print."""

    model_config = SettingsConfigDict(
        env_prefix="NIGHTLY_PRODUCTION_", frozen=True, extra="ignore", hide_input_in_errors=True
    )

    tables: str = Field(description="where its Delta tables are")
    journal: str = Field(description="where its journal is exported to")
    database_url: SecretStr = Field(description="its shared database, with a login of the role ops_reader")
    storage_options: dict[str, SecretStr] = Field(default_factory=dict, description="how its S3 is reached")

    def read_with(self, settings: Settings) -> Settings:
        """Return settings that read there: those of this installation with the places of the other one."""
        return settings.model_copy(
            update={
                "tables": self.tables,
                "journal": self.journal,
                "database_url": self.database_url,
                "storage_options": self.storage_options,
                "landing": "none://",
                "artifacts": "none://",
                "catalog": None,
                "exports": None,
            }
        )
