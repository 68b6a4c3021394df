"""`make insight`: one executed notebook a project, and a page and a PDF of it (docs/insight.md).

The command reads versions and rows with the rights of the operator who types it, and writes what the notebook needs
into a private folder. The notebook's own process has that folder only: no login, no key.
"""
