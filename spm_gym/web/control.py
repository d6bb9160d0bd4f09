"""Pause, resume and stop a run from its page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as HttpRequest
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from spm_gym.journal.run_lock import is_run_locked
from spm_gym.runner.control import CannotAsk, Request, WrongToken, ask, asked_of
from spm_gym.web.access import Access, fields
from spm_gym.web.pages import Text

_ASKED = {
    Request.PAUSE: "Asked to pause: after the command under way the tip is withdrawn, if possible.",
    Request.STOP: "Asked to stop: after the command under way the tip is withdrawn, if possible.",
}


@dataclass(frozen=True, slots=True)
class Controls:
    """Controls that the page offers to one request.

    Attributes:
        has_token: Whether the page was started with a token.
        unlocked: Whether the request comes with it.
        at_work: Whether there is anything to control.
        asked: What the run was asked for last.
        words: That request as a sentence, as long as it matters.
    """

    has_token: bool
    unlocked: bool
    at_work: bool
    asked: str
    words: str


def controls(run: Path, access: Access, request: HttpRequest) -> Controls:
    """Determine which controls a request is offered."""
    asked = asked_of(run, access.token)
    return Controls(
        has_token=access.token is not None,
        unlocked=access.may_act(request),
        at_work=is_run_locked(run),
        asked=asked,
        words=_ASKED[Request(asked)] if asked in _ASKED else "",
    )


def control_route(run: Path, access: Access) -> Route:
    """``POST /control`` with the field ``request``: pause, resume or stop.

    The rules of access have let it through when the handler is called.
    """

    async def handle(request: HttpRequest) -> Response:
        requested = (await fields(request)).get("request", "")
        # In a thread: the proof of a token is slow on purpose.
        return await run_in_threadpool(answer, request, requested)

    def answer(request: HttpRequest, requested: str) -> Response:
        if requested not in {*Request}:
            return Text(f"request must be one of {', '.join(Request)}", 400)
        if not is_run_locked(run):
            return _refused(request, "Nothing is at work here: there is nothing to control.", 409)
        try:
            ask(run, Request(requested), access.token)
        except WrongToken:
            return _refused(request, "The run was started with another token: use that one.", 403)
        except CannotAsk as error:
            return _refused(request, str(error), 500)
        if "hx-request" in request.headers:
            return Response(status_code=204, headers={"HX-Trigger": "asked"})
        return RedirectResponse("/", 303)

    return Route("/control", handle, methods=["POST"])


def _refused(request: HttpRequest, text: str, status: int) -> Response:
    """Answer with a reason; within the page, htmx displays only answers of status 200."""
    return Text(text, 200 if "hx-request" in request.headers else status)
