"""An application of pages: templates, assets, and the rules of access around them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Any

import jinja2
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import BaseRoute, Mount
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from spm_gym.web.access import Access, Guarded


class Pages:
    """Templates; everything that comes from a run or a folder is escaped.

    Args:
        filters: For use in them, by name.
    """

    def __init__(self, **filters: Callable[..., str]) -> None:
        self._templates = jinja2.Environment(
            loader=jinja2.PackageLoader("spm_gym.web"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters |= filters
        self._templates.globals["version"] = metadata.version("spm-gym")

    def __call__(self, template: str, status: int = 200, **context: Any) -> HTMLResponse:
        """Render a template."""
        return HTMLResponse(self._templates.get_template(template).render(context), status)


def application(routes: Sequence[BaseRoute], pages: Pages, access: Access) -> Starlette:
    """Put routes and assets behind the rules of access."""

    async def asking_for_token(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        tried = request.method == "POST" or "token" in request.query_params
        page = pages("token.html", status=401, tried=tried, has_token=access.token is not None)
        await page(scope, receive, send)

    def going_on(path: str) -> HTMLResponse:
        return pages("going_on.html", path=path)

    guard = Middleware(Guarded, access=access, asking_for_token=asking_for_token, going_on=going_on)
    assets = Mount("/static", StaticFiles(packages=[("spm_gym.web", "static")]))
    return Starlette(routes=[*routes, assets], middleware=[guard])
