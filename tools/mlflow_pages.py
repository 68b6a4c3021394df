"""MLflow's pages behind a login: `python -m tools.mlflow_pages`, with MLflow's own variables for where its data is.

By itself MLflow lets everyone who reaches its port change models, and every user of a machine reaches the ports of its
loopback address. MLflow also answers pages of other ports of localhost in the name of whoever looks at them.
"""

import base64
import hmac
import json
import os
from collections.abc import Mapping
from pathlib import Path

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

PASSWORDS_FILE = "NIGHTLY_UI_PASSWORDS_FILE"
"""The variable that names the file with the password of each user, in the form of Airflow's SimpleAuthManager."""


class Login:
    """Let only requests through that have a login, come for this host, and come from no page of another one.

    Args:
        app: The application to protect.
        passwords: The password of each user.
        port: The port of the application.
    """

    def __init__(self, app: ASGIApp, passwords: Mapping[str, str], port: int) -> None:
        self.app = app
        self.logins = [f"{user}:{password}".encode() for user, password in passwords.items()]
        self.hosts = [f"{name}:{port}" for name in ("127.0.0.1", "localhost")]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer why not."""
        answer = self.app if scope["type"] == "lifespan" else self._refuse(scope) or self.app
        await answer(scope, receive, send)

    def _refuse(self, scope: Scope) -> ASGIApp | None:
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        host, origin = headers.get(b"host"), headers.get(b"origin")
        if host not in self.hosts:
            return PlainTextResponse(f"this server is http://{self.hosts[0]}", 403)
        if origin not in (None, f"http://{host}"):
            return PlainTextResponse("a page of another server may not use this one", 403)
        if scope["path"] == "/health" or self._is_known(headers.get(b"authorization", "")):
            return None
        return PlainTextResponse(
            "log in with the user and password that `make ui` prints",
            401,
            {"WWW-Authenticate": 'Basic realm="MLflow: make ui prints user and password", charset="UTF-8"'},
        )

    def _is_known(self, authorization: str) -> bool:
        scheme, _, value = authorization.partition(" ")
        try:
            given = base64.b64decode(value, validate=True) if scheme.lower() == "basic" else b""
        except ValueError:
            return False
        return any(hmac.compare_digest(given, login) for login in self.logins)


def main() -> None:
    """Serve the pages at MLFLOW_HOST and MLFLOW_PORT."""
    import uvicorn  # first: MLflow's application checks `Host` only if it finds a server
    from mlflow.server.constants import ARTIFACT_ROOT_ENV_VAR, BACKEND_STORE_URI_ENV_VAR
    from mlflow.server.handlers import initialize_backend_stores

    store, artifacts = os.environ["MLFLOW_BACKEND_STORE_URI"], os.environ["MLFLOW_DEFAULT_ARTIFACT_ROOT"]
    # `mlflow server` hands these two to its application in the same way, but runs it without a login.
    os.environ |= {BACKEND_STORE_URI_ENV_VAR: store, ARTIFACT_ROOT_ENV_VAR: artifacts}
    initialize_backend_stores(store, None, artifacts)
    from mlflow.server.fastapi_app import app

    passwords = json.loads(Path(os.environ[PASSWORDS_FILE]).read_text(encoding="utf-8"))
    host, port = os.environ["MLFLOW_HOST"], int(os.environ["MLFLOW_PORT"])
    uvicorn.run(Login(app, passwords, port), host=host, port=port, log_level="warning")


if __name__ == "__main__":
    main()
