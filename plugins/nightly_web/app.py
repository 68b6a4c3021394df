"""The routes. The app is built at the first request: what it imports of Airflow takes seconds, in each process."""

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool

log = logging.getLogger(__name__)

PREFIX = "/nightly"
"""Where the API server mounts the app."""

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'self'",  # a policy in the page cannot say this
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}

Message = MutableMapping[str, Any]


class LazyApp:
    """An ASGI app that builds the real one when it is first asked."""

    def __init__(self) -> None:
        self._app: Any = None

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Pass the request on."""
        if self._app is None:
            self._app = await run_in_threadpool(build)
        await self._app(scope, receive, send)


def build() -> Any:
    """Return the FastAPI app with all pages."""
    from datetime import date
    from typing import Annotated

    from fastapi import Depends, FastAPI, Query, Request
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import HTMLResponse
    from starlette.exceptions import HTTPException

    from nightly_backfill.printable import printable
    from nightly_pages import page
    from nightly_web import feed, model, run_date, tabs, today
    from nightly_web.access import Access, find_access, may_start
    from nightly_web.database import DatabaseError, open_views
    from nightly_web.words import Links

    folder = Path(__file__).parent
    app = FastAPI(title="nightly-ml pages", docs_url=None, redoc_url=None, openapi_url=None)
    may = Annotated[Access, Depends(find_access)]
    window = Annotated[int, Query(ge=7, le=1100)]

    def links(request: Request) -> Links:
        return Links(str(request.scope.get("root_path") or PREFIX))

    def answer(request: Request, template: str, values: dict[str, Any], status: int = 200) -> HTMLResponse:
        shown = page.render(
            folder / f"{template}.html.j2",
            {"link": links(request), **values},
            visible=printable,
            styles=[folder / "web.css"],
            script=folder / "web.js",
        )
        return HTMLResponse(shown, status, HEADERS)

    def refused(request: Request, status: int, head: str, why: str) -> HTMLResponse:
        return answer(request, "refused", {"status": status, "head": head, "why": why}, status)

    @app.exception_handler(HTTPException)
    def not_allowed(request: Request, error: HTTPException) -> HTMLResponse:
        heads = {401: "Log in to Airflow", 403: "Not allowed", 404: "There is no such page"}
        whys = {401: "This page needs a login to Airflow. Log in, then load this page again."}
        why = whys.get(error.status_code, str(error.detail))
        return refused(request, error.status_code, heads.get(error.status_code, "This did not work"), why)

    @app.exception_handler(RequestValidationError)
    def not_understood(request: Request, error: RequestValidationError) -> HTMLResponse:
        wrong = "; ".join(f"{each['loc'][-1]}: {each['msg']}" for each in error.errors())
        return refused(request, 422, "This address is wrong", f"What does not fit: {wrong}. Begin at the page Today.")

    @app.exception_handler(DatabaseError)
    def no_database(request: Request, error: DatabaseError) -> HTMLResponse:
        log.warning("a page could not be read: %s", error)
        return refused(request, 503, "The figures cannot be read", str(error))

    @app.get("/", response_class=HTMLResponse)
    def show_today(request: Request, access: may) -> HTMLResponse:
        with open_views() as views:
            return answer(request, "today", today.values(views, access, links(request)))

    @app.get("/model/{name}", response_class=HTMLResponse)
    def show_model(request: Request, access: may, name: str, days: window = 90) -> HTMLResponse:
        with open_views() as views:
            return answer(request, "page", model.shown(views, access, links(request), name, days).values())

    @app.get("/day/{project}/{day}", response_class=HTMLResponse)
    def show_run_date(request: Request, access: may, project: str, day: date) -> HTMLResponse:
        with open_views() as views:
            return answer(request, "page", run_date.shown(views, access, links(request), project, day).values())

    @app.get("/feed/{project}/{name}", response_class=HTMLResponse)
    def show_feed(request: Request, access: may, project: str, name: str) -> HTMLResponse:
        with open_views() as views:
            return answer(request, "page", feed.shown(views, access, links(request), project, name).values())

    @app.get("/dag", response_class=HTMLResponse)
    def show_dag(request: Request, access: may, dag_id: str) -> HTMLResponse:
        with open_views() as views:
            return answer(request, "page", tabs.of_dag(views, access, links(request), dag_id).values())

    @app.get("/run", response_class=HTMLResponse)
    def show_run(request: Request, access: may, dag_id: str, run_id: str, task_id: str | None = None) -> HTMLResponse:
        with open_views() as views:
            shown = tabs.of_run(views, access, links(request), dag_id, run_id, task_id)
            return answer(request, "page", shown.values())

    @app.get("/start/{dag_id}", response_class=HTMLResponse)
    def show_form(
        request: Request,
        access: may,
        allowed: Annotated[bool, Depends(may_start)],
        dag_id: str,
        version: str | None = None,
    ) -> HTMLResponse:
        if not dag_id.endswith(("_rollback", "_approve")):
            raise HTTPException(404, f"There is no form for the DAG {dag_id}. Start it on its page in Airflow.")
        with open_views() as views:
            return answer(request, "start", tabs.form(views, access, links(request), dag_id, version, allowed))

    return app
