"""`make new-project`: read examples and write the folder of a project that can be run.

`files` finds which files are of one feed, `tables` reads a database, `columns` finds what columns are, `relations` how
feeds belong together, and `write` makes the folder of it. Nothing here is used by a running project.
"""
