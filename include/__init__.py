"""nightly-ml, the product: everything that runs on a laptop, on an Airflow worker and on Databricks.

No Airflow import anywhere below this package: `dags/` wires it, `python -m include.cli` runs it by hand.
"""

__version__ = "0.1.0"
