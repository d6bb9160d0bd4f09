"""Who may see a page, and who may act through it.

On loopback everybody on this computer may look. Acting takes the token that the server was started
with, unless the page only concerns files of the person who started it. Beyond loopback the token is
needed for everything. A browser keeps a key of this server in a cookie that pages of other sites
cannot use; programs send ``Authorization: Bearer TOKEN``.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from urllib.parse import parse_qsl, quote, urlsplit

from starlette.datastructures import URL, MutableHeaders
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from spm_gym.network import is_loopback
from spm_gym.runner.control import same_secret

UNLOCK = "/unlock"
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
_MOST_BYTES = 65536
_MOST_FIELDS = 20
_FORM = "application/x-www-form-urlencoded"
_WRONG_TOKEN_S = 1.0
"""For as long after a wrong token nobody is believed, so that nobody tries many.

Wherever they come from: one computer has many addresses, and proxies say what they like.
"""

_WRONG = "That is not the token. After a wrong one nobody is believed for a second."
_TOO_EARLY = (
    "Somebody has given a wrong token a moment ago, and for a second nobody is believed: try again."
)

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data: blob:; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # with "no-referrer" browsers withhold the origin of forms
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Access:
    """The rules, and the key that a browser gets for the token.

    Attributes:
        token: Everybody who acts must know it; None: nobody may act.

    Args:
        token: See above.
        host: The address that is listened on.
        acting_is_free: Whether on loopback acting needs no token.
    """

    def __init__(self, token: str | None, host: str, acting_is_free: bool = False) -> None:
        self.token = token
        self._loopback = is_loopback(host)
        self._host = host
        self._acting_is_free = acting_is_free
        self._key = secrets.token_urlsafe()
        self._refused_until = 0.0

    def may_read(self, request: HTTPConnection) -> bool:
        """Decide whether a request may read anything."""
        return self._loopback or self.is_known(request)

    def may_act(self, request: HTTPConnection) -> bool:
        """Decide whether a request may change anything; see `is_foreign` as well."""
        return (self._loopback and self._acting_is_free) or self.is_known(request)

    def is_known(self, request: HTTPConnection) -> bool:
        """Tell whether a request comes with the token or with the key."""
        kept = request.cookies.get(_cookie(request.url), "")
        return same_secret(kept, self._key) or self._bears_token(request)

    def is_foreign(self, request: HTTPConnection) -> bool:
        """Tell whether a request was, or may have been, sent by a page of another site."""
        if self._bears_token(request):
            return False  # no browser adds the token by itself
        origin = request.headers.get("origin")
        if origin is not None:
            return _netloc(origin) != request.headers.get("host")
        return request.headers.get("sec-fetch-site") != "same-origin"

    def is_for_us(self, request: HTTPConnection) -> bool:
        """Tell whether a request names this computer, not a name that somebody pointed at it."""
        name = _hostname(request.headers.get("host", ""))
        return bool(name) and (not self._loopback or is_loopback(name) or name == self._host)

    def refusal(self, token: str) -> str:
        """Explain why this token opens nothing, in a sentence; "" if it is the right one."""
        # Not by the wall clock, which somebody may set.
        now = time.monotonic()
        if now < self._refused_until:
            return _TOO_EARLY
        if self.token is not None and same_secret(token, self.token):
            return ""
        self._refused_until = now + _WRONG_TOKEN_S
        return _WRONG

    def remember(self, response: Response, url: URL) -> Response:
        """Let the browser keep the key."""
        response.set_cookie(_cookie(url), self._key, httponly=True, samesite="strict", path="/")
        return response

    def _bears_token(self, request: HTTPConnection) -> bool:
        given = bearer_token(request)
        return given is not None and self.token is not None and same_secret(given, self.token)


class Guarded:
    """Lets through to an application what the rules of `Access` allow.

    Args:
        app: The application.
        access: The rules.
        asking_for_token: Makes a page for those who must give the token first; takes what is
            wrong with the one that they gave, "" for none.
        handing_over: Makes a page that hands in a token and goes on to a path, by itself or at the
            press of a button.
    """

    def __init__(
        self,
        app: ASGIApp,
        access: Access,
        asking_for_token: Callable[[str], Response],
        handing_over: Callable[[str, str, bool], Response],
    ) -> None:
        self._app = app
        self._access = access
        self._asking_for_token = asking_for_token
        self._handing_over = handing_over

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                # Pages hold data of runs, and a shared browser must not keep them.
                asset = scope["path"].startswith("/static/")
                headers.setdefault("Cache-Control", "no-cache" if asset else "no-store")
            await send(message)

        try:
            answer = await self._other_answer(Request(scope, receive)) or self._app
            await answer(scope, receive, send_with_headers)
        except ClientDisconnect:
            pass  # in the middle of a form: there is nobody to answer

    async def _other_answer(self, request: Request) -> ASGIApp | None:
        access = self._access
        if not access.is_for_us(request):
            return PlainTextResponse("this server has another name", 421)
        if request.method not in _SAFE_METHODS and not _is_small(request):
            return PlainTextResponse(
                f"refused: the size must be given, at most {_MOST_BYTES} B", 413
            )
        if request.method not in _SAFE_METHODS and not _is_form(request):
            return PlainTextResponse(f"refused: send a form as {_FORM} (curl -d)", 415)
        given = bearer_token(request)
        if given is not None and (why := access.refusal(given)):
            return self._asking_for_token(why)
        if request.url.path.startswith("/static/"):
            return None
        if request.url.path == UNLOCK:
            return await self._unlock(request)
        if "token" in request.query_params and request.method in _SAFE_METHODS:
            return self._given_in_url(request)
        if not access.may_read(request):
            return self._asking_for_token("")
        return None if request.method in _SAFE_METHODS else self._refusal_to_act(request)

    def _refusal_to_act(self, request: Request) -> ASGIApp | None:
        access = self._access
        if access.is_foreign(request):
            return PlainTextResponse("refused: sent by a page of another site", 403)
        if not access.may_act(request):
            why = (
                "give the token first"
                if access.token is not None
                else "start the page with --token"
            )
            return PlainTextResponse(f"refused: {why}", 403)
        return None

    async def _unlock(self, request: Request) -> ASGIApp:
        if request.method != "POST":
            return self._asking_for_token("")
        if self._access.is_foreign(request):
            return PlainTextResponse("refused: sent by a page of another site", 403)
        given = await fields(request)
        if why := self._access.refusal(given.get("token", "")):
            return self._asking_for_token(why)
        there = _within(given.get("there", ""))
        return self._access.remember(RedirectResponse(there, 303), request.url)

    def _given_in_url(self, request: Request) -> ASGIApp:
        """Have a page of ours hand in the token of a link, so that the address loses it.

        It is not tried here. Any site can have browsers load such an address, as often as it likes,
        and wrong tokens would keep everybody out; nor would a browser that comes from another site
        show its key on a redirect. Unless the browser says that no page has sent it here, which it
        says only of addresses that it trusts, somebody has to press a button.
        """
        clean = request.url.remove_query_params("token")
        there = f"{quote(clean.path)}?{clean.query}".rstrip("?")
        if self._access.is_known(request):
            return RedirectResponse(_within(there), 303)
        by_itself = request.headers.get("sec-fetch-site") in ("none", "same-origin")
        return self._handing_over(request.query_params["token"], there, by_itself)


def bearer_token(request: HTTPConnection) -> str | None:
    """Read the token that a program sends."""
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    return given if scheme.lower() == "bearer" else None


async def fields(request: Request) -> dict[str, str]:
    """Read the fields of a form; none if there are too many."""
    body = (await request.body()).decode("ascii", "replace")
    try:
        return dict(parse_qsl(body, keep_blank_values=True, max_num_fields=_MOST_FIELDS))
    except ValueError:
        return {}


def _within(path: str) -> str:
    """Keep a path on this server: browsers take two slashes for another host."""
    return f"/{path.lstrip('/')}"


def _netloc(url: str) -> str:
    try:
        return urlsplit(url).netloc
    except ValueError:
        return ""


def _hostname(host: str) -> str:
    """Read the name in a ``Host`` header; "" if it makes no sense."""
    try:
        parts = urlsplit(f"//{host}")
        return parts.hostname or "" if parts.port is None or parts.port else ""
    except ValueError:
        return ""


def _is_small(request: Request) -> bool:
    length = request.headers.get("content-length", "0")
    counted = "transfer-encoding" not in request.headers and length.isdecimal()
    return counted and int(length) <= _MOST_BYTES


def _is_form(request: Request) -> bool:
    kind = request.headers.get("content-type", _FORM)
    return kind.partition(";")[0].strip().lower() == _FORM


def _cookie(url: URL) -> str:
    """Name the cookie: all ports of a host share cookies, but each has its own key."""
    return f"spm-gym-{url.port or 80}"
