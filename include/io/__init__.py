"""Everything with side effects: object storage, Delta tables, PostgreSQL, MLflow and Spark.

This package knows no step and no rule: decisions belong in `include.steps` and in the pure packages.
"""
