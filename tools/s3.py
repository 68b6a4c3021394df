"""The S3 server of tests and of the local stack: moto, one request at a time (`python tools/s3.py <port>`).

moto takes every key. So that no other user of the machine reads or writes, the server of the local stack demands the
session token that S3's clients send with each request. The token is in the variable `NIGHTLY_S3_TOKEN`.

moto checks whether an object exists and then writes it. So of two conditional writes at the same moment it sometimes
accepts both (seen: two commits of one version of a table), where S3 refuses one.
"""

import hmac
import os
import sys
from collections.abc import Callable, Iterable
from threading import Lock
from typing import Any
from urllib.parse import parse_qs

TOKEN = "NIGHTLY_S3_TOKEN"
TOKEN_HEADER = "X-Amz-Security-Token"
TOKEN_VARIABLE = "HTTP_X_AMZ_SECURITY_TOKEN"  # the header's name in WSGI

Application = Callable[..., Iterable[bytes]]


def one_at_a_time(application: Application) -> Application:
    """Wrap an application so that it completes the answer to one request before it handles the next."""
    lock = Lock()

    def answer(*request: Any) -> Iterable[bytes]:
        with lock:
            return [*application(*request)]

    return answer


def with_token(application: Application, token: str) -> Application:
    """Wrap an application so that it refuses requests without the session token."""
    expected = token.encode()

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        query = parse_qs(environ.get("QUERY_STRING", ""))  # of a signed URL
        given = environ.get(TOKEN_VARIABLE) or query.get("X-Amz-Security-Token", [""])[0]
        if hmac.compare_digest(given.encode(), expected):
            return application(environ, start_response)
        start_response("403 Forbidden", [("Content-Type", "application/xml")])
        return [b"<Error><Code>AccessDenied</Code><Message>this server has a session token</Message></Error>"]

    return answer


if __name__ == "__main__":
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
    from werkzeug.serving import run_simple

    served = one_at_a_time(DomainDispatcherApplication(create_backend_app))
    if TOKEN in os.environ:
        served = with_token(served, os.environ[TOKEN])
    run_simple("127.0.0.1", int(sys.argv[1]), served, threaded=True, request_handler=MotoRequestHandler)
