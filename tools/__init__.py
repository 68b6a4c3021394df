"""Build, run and check the project on a developer's machine. Neither the product nor its DAGs import this."""
