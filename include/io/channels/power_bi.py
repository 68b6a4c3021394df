"""power_bi: asks Power BI to refresh a dataset (a semantic model), after readers see something new.

The login is that of an application (OAuth client credentials). Nothing of the message is sent: its text says in the
outbox why the refresh was asked for. The operator of Airflow's provider for Azure would bring Azure's libraries, and
nobody would repeat what failed; here the outbox does.
"""

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, SecretStr

from include.core.errors import ActionRequiredError
from include.core.outbox import Attempt, attempt_of
from include.core.settings import utc_now
from include.io.channels.base import Channel, Sendable, attempt, require_http_url

if TYPE_CHECKING:
    import httpx

SCOPE = "https://analysis.windows.net/powerbi/api/.default"
WITHOUT_MAIL = {"notifyOption": "NoNotification"}
"""What an application may ask for: Power BI cannot send it an e-mail, and refuses the other options."""

IS_RUNNING = 400
"""Power BI answers it while a refresh runs. That one may have begun before the publication, so it is asked again."""


class PowerBi(Channel):
    """Asks for a refresh. The URL is `https://api.powerbi.com/v1.0/myorg/groups/<group>/datasets/<id>/refreshes`."""

    kind: Literal["power_bi"] = "power_bi"
    login_url: SecretStr
    client_id: SecretStr
    secret: SecretStr = Field(min_length=1)

    def require_usable(self, destination: str) -> None:
        """Refuse addresses that are no URLs of HTTP, and one that does not refresh a dataset."""
        for url in (self.url, self.login_url):
            require_http_url(destination, url.get_secret_value())
        if not self.url.get_secret_value().rstrip("/").endswith("/refreshes"):
            raise ActionRequiredError(
                f"connection {destination}: its password must be the URL that ends with "
                "/groups/<group>/datasets/<id>/refreshes"
            )

    def send(self, message: Sendable, seconds: float) -> Attempt:
        """Get a token and ask for a refresh. The limit is for both calls together; no redirect is followed."""
        return attempt(self._ask, seconds)

    async def _ask(self, client: "httpx.AsyncClient") -> Attempt:
        login = {
            "grant_type": "client_credentials",
            "client_id": self.client_id.get_secret_value(),
            "client_secret": self.secret.get_secret_value(),
            "scope": SCOPE,
        }
        answer = await client.post(self.login_url.get_secret_value(), data=login)
        login_attempt = attempt_of(answer.status_code, answer.headers, utc_now())
        if login_attempt.outcome != "sent":
            return login_attempt.model_copy(update={"reason": f"the login {login_attempt.reason}"})
        token = _token_of(answer)
        if token is None:
            return Attempt(outcome="later", reason="the login answered without a token")
        headers = {"Authorization": f"Bearer {token}"}
        answer = await client.post(self.url.get_secret_value(), json=WITHOUT_MAIL, headers=headers)
        if answer.status_code == IS_RUNNING:
            return Attempt(outcome="later", reason="answered 400, as it does while a refresh is running")
        return attempt_of(answer.status_code, answer.headers, utc_now())


def _token_of(answer: Any) -> str | None:
    """Return the token of a login; None if there is none that a header can have."""
    try:
        token = answer.json()["access_token"]
    except (ValueError, KeyError, TypeError):
        return None
    return token if isinstance(token, str) and token.isascii() and token.isprintable() and token else None
