"""How a step is run and recorded: one day, a range of days, or on Databricks.

What a step does is in `include/steps`; when it runs is decided in `dags/`.
"""
