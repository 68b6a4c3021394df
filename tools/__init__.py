"""What builds, runs and checks the project on a developer's machine. Neither the product nor its DAGs import it."""
