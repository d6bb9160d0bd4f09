"""An application of pages: templates, assets, and the rules of access around them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Any

import jinja2
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import HTMLResponse, PlainTextResponse
from starlette.routing import BaseRoute, Mount
from starlette.staticfiles import StaticFiles

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
        page = self._templates.get_template(template).render(context)
        # Errors may name files, whose names may be no text.
        return HTMLResponse(page.encode("utf-8", "backslashreplace"), status)


class Text(PlainTextResponse):
    """A text that may name files, whose names may be no text."""

    def render(self, content: str) -> bytes:
        """Encode as UTF-8."""
        return content.encode("utf-8", "backslashreplace")


def application(routes: Sequence[BaseRoute], pages: Pages, access: Access) -> Starlette:
    """Put routes and assets behind the rules of access."""

    def asking_for_token(why: str) -> HTMLResponse:
        return pages("token.html", status=401, why=why, has_token=access.token is not None)

    def handing_over(token: str, there: str, by_itself: bool) -> HTMLResponse:
        return pages("handing_over.html", token=token, there=there, by_itself=by_itself)

    guard = Middleware(
        Guarded, access=access, asking_for_token=asking_for_token, handing_over=handing_over
    )
    assets = Mount("/static", StaticFiles(packages=[("spm_gym.web", "static")]))
    return Starlette(routes=[*routes, assets], middleware=[guard])
