"""The only side effects: object storage, Delta tables, PostgreSQL, MLflow, Spark. Knows no step and no rule."""
