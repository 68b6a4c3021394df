"""Run the product's command line with settings from the Airflow connections: `python -m dags.cli` in the bundle's root.

It takes the arguments of `include.cli`, and replaces itself by it. `NIGHTLY_*` variables that are already set take
precedence; the others come from the connections. Exit code 2: a connection is missing or incomplete.

`airflow dags backfill` (`plugins/nightly_backfill`) and `nightly` in containers call it.
"""

import os
import sys
from collections.abc import Sequence
from typing import NoReturn


def main(arguments: Sequence[str]) -> NoReturn:
    """Replace this process by `include.cli`. Secrets go through the environment: everyone can read a command line."""
    stdout = os.dup(1)
    os.dup2(2, 1)  # Airflow would log to standard output, where the command prints its record.
    variables = _find_variables([*arguments[:1]])
    sys.stdout.flush()
    os.dup2(stdout, 1)
    os.execve(sys.executable, [sys.executable, "-m", "include.cli", *arguments], os.environ | variables)


def _find_variables(command: list[str]) -> dict[str, str]:
    os.environ.setdefault("AIRFLOW__LOGGING__LOGGING_LEVEL", "WARNING")
    # Outside of tasks, Airflow reads connections from its database only if this is set, as `airflow connections get`
    # does. The variable is private; tests/integration/test_backfill.py notices when it no longer works.
    os.environ["_AIRFLOW_PROCESS_CONTEXT"] = "server"
    # Airflow starts to log as soon as it is imported.
    from airflow.sdk.exceptions import AirflowFailException, AirflowNotFoundException

    from dags.connections import find_notifying, find_owner, find_variables
    from include.core.printable import printable_lines

    try:
        if command in (["watch"], ["alert"]):  # they run where there are no other connections
            return find_notifying(os.environ)
        return find_variables(os.environ) | (find_owner(os.environ) if command == ["migrate"] else {})
    except (AirflowFailException, AirflowNotFoundException) as error:
        sys.stderr.write(f"{printable_lines(str(error))}\n")
        raise SystemExit(2) from error


if __name__ == "__main__":
    main(sys.argv[1:])
