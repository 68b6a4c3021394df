"""The limits of what a supplier can send. They are enforced while a file is read, so that it costs little memory."""

from pydantic import Field

from include.core.base import Config

MEGABYTE = 1_000_000
NAME_CHARACTERS = 200
"""The most characters of a column's name, on average over the columns that a file may have."""


BYTES_OF_A_VALUE = 4
"""What a value counts for at least, also an empty one: in memory it takes more, and a file may have nothing else."""


class Limits(Config):
    """The largest file of a feed that is read. A larger one is refused."""

    unpacked_mb: int = Field(
        default=256,
        ge=1,
        description="megabytes of a file when it is unpacked, 1,000,000 bytes each; a value counts at least 4 bytes",
        examples=[2000],
    )
    columns: int = Field(
        default=1000, ge=1, description="columns of a file, the undeclared ones included", examples=[5000]
    )
    field_characters: int = Field(default=100_000, ge=1, description="characters of a value", examples=[1_000_000])

    @property
    def max_bytes(self) -> int:
        """Return the most bytes of a file when it is unpacked."""
        return self.unpacked_mb * MEGABYTE

    def max_rows(self, columns: int) -> int:
        """Return the most rows of a file of which so many columns are kept."""
        return self.max_bytes // (BYTES_OF_A_VALUE * max(columns, 1))
