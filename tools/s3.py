"""The S3 server of tests and of the local stack: moto, one request at a time (`python tools/s3.py <port>`).

moto checks whether an object exists and then writes it. So of two conditional writes at the same moment it sometimes
accepts both (seen: two commits of one version of a table), where S3 refuses one.
"""

import sys
from collections.abc import Callable, Iterable
from threading import Lock
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import run_simple

Application = Callable[..., Iterable[bytes]]


def one_at_a_time(application: Application) -> Application:
    """Wrap an application so that it completes the answer to one request before it handles the next."""
    lock = Lock()

    def answer(*request: Any) -> Iterable[bytes]:
        with lock:
            return [*application(*request)]

    return answer


if __name__ == "__main__":
    served = one_at_a_time(DomainDispatcherApplication(create_backend_app))
    run_simple("127.0.0.1", int(sys.argv[1]), served, threaded=True, request_handler=MotoRequestHandler)
