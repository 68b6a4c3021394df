"""Run a step and record the run: for one day, for a range of days, or on Databricks.

What a step does belongs in `include/steps`; when it runs belongs in `dags/`.
"""
