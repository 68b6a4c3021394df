"""The clients of databases that feeds are extracted from: PostgreSQL by ADBC, any other by SQLAlchemy.

They run a query and hand out its rows as text. What becomes of the rows belongs in `steps/extract.py`.
"""
