"""What runs of steps cost in money, by the price list that `project.yaml` declares. Pure."""

from typing import Annotated

from pydantic import Field

from include.core.base import Config

Price = Annotated[float, Field(ge=0)]


class Prices(Config):
    """The price list of a project and its budget. A run keeps the cost that the prices of its time gave."""

    currency: str = Field(
        pattern=r"^[A-Z]{3}$", description="currency of all prices, as three letters", examples=["EUR"]
    )
    core_hour: Price = Field(default=0, description="price of an hour of CPU time on the worker", examples=[0.05])
    dbu: Price = Field(default=0, description="price of a Databricks unit (DBU)", examples=[0.22])
    gb_month: Price = Field(
        default=0, description="price of a gigabyte (10⁹ bytes) in the tables for a month of 30 days", examples=[0.023]
    )
    budget_per_month: float | None = Field(
        default=None,
        gt=0,
        description="what steps and storage of the project may cost in a calendar month; a higher cost, or projection, "
        "raises an alert",
        examples=[100],
    )

    def cost(self, core_seconds: float | None, dbus: float | None) -> float:
        """Return the cost of a run; what was not measured costs nothing here."""
        return (core_seconds or 0) / 3600 * self.core_hour + (dbus or 0) * self.dbu

    def storage_cost(self, stored: int) -> float:
        """Return what so many bytes cost for a day."""
        return stored / 1e9 * self.gb_month / 30
