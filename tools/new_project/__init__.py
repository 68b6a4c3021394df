"""`make new-project`: read example files and write the folder of a project that can be run.

`files` finds which files are of one feed, `columns` what their columns are, `relations` how feeds belong together, and
`write` makes the folder of it. Nothing here is used by a running project.
"""
