"""The labelling page: its routes and what its templates show."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlencode

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from spm_gym.datasets.label_forecast import FEWEST_LABELS, MORE
from spm_gym.datasets.manifest import LABELS
from spm_gym.figures.heights import ScanRendering, height_scale
from spm_gym.imaging.files import FileFormatError
from spm_gym.imaging.preprocessing import Preprocessing
from spm_gym.paths import as_typed, display_name
from spm_gym.web.access import Access, fields
from spm_gym.web.labelling.desk import SKIP, Desk, Disagreement
from spm_gym.web.labelling.forecasts import Forecaster
from spm_gym.web.labelling.labels import LabelsError
from spm_gym.web.labelling.pictures import (
    address_of,
    in_words,
    kind_of,
    picture_of,
    scale_bar,
)
from spm_gym.web.pages import Pages, Text, application

_COOKIE = "spm-gym-labeller"
_YEAR_S = 365 * 86400
_MOST_LISTED = 100
_Fields = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Setup:
    """Settings of a labelling page.

    Attributes:
        folder: Of the images.
        pixels: Side of the images that the network takes.
        preprocessing: How images are levelled, and normalised for the network.
        labeller: Who labels; None: everybody is asked.
        left_out: Why files of the folder cannot be labelled.
    """

    folder: Path
    pixels: int
    preprocessing: Preprocessing
    labeller: str | None = None
    left_out: Sequence[str] = ()


def labelling(desk: Desk, setup: Setup, access: Access) -> Starlette:
    """Make the application.

    Args:
        desk: Images and labels.
        setup: Its settings.
        access: Who may use it.
    """
    it = _Labelling(desk, setup)
    routes = [
        Route("/", _answering(it.show)),
        Route("/image", _answering(it.picture)),
        Route("/heights", _answering(it.heights)),
        Route("/name", _answering(it.ask_name)),
        Route("/name", _taking(it.take_name), methods=["POST"]),
        Route("/answers", _taking(it.take_answer), methods=["POST"]),
        Route("/undo", _taking(it.undo), methods=["POST"]),
        Route("/again", _taking(it.offer_skipped), methods=["POST"]),
        Route("/done", _answering(it.show_done)),
        Route("/forecast", _answering(it.show_forecast)),
        Route("/disagreements", _answering(it.show_disagreements)),
        Route("/consensus", _taking(it.take_consensus), methods=["POST"]),
    ]
    return application(routes, it.pages, access)


class _BadRequest(ValueError):
    """A request makes no sense."""


def _answering(show: Callable[[Request], Response]) -> Callable[[Request], Response]:
    def endpoint(request: Request) -> Response:
        return _or_problem(lambda: show(request))

    return endpoint


def _taking(take: Callable[[Request, _Fields], Response]) -> Callable[[Request], Any]:
    async def endpoint(request: Request) -> Response:
        given = await fields(request)
        # In a thread: writing the manifest waits for the disk.
        return await run_in_threadpool(_or_problem, lambda: take(request, given))

    return endpoint


def _or_problem(answer: Callable[[], Response]) -> Response:
    try:
        return answer()
    except LabelsError as error:
        return Text(str(error), 409)
    except _BadRequest as error:
        return Text(str(error), 400)


class _Labelling:
    """Answers requests."""

    def __init__(self, desk: Desk, setup: Setup) -> None:
        self.pages = Pages()
        self._desk = desk
        self._setup = setup
        self._forecaster = Forecaster(desk)

    def show(self, request: Request) -> Response:
        """Answer with the requested image, or the next one."""
        name = self._name(request)
        if name is None:
            return RedirectResponse("/name", 303)
        self._desk.refresh()
        file = request.query_params.get("file")
        if file is None:
            file = self._desk.next_after(name, None)
        elif file not in self._desk.images:
            raise _BadRequest(f"there is no image {file!r} to label")
        return self._desk_with(request, name, file, kind_of(request.query_params))

    def _desk_with(
        self, request: Request, name: str, file: str | None, kind: ScanRendering
    ) -> Response:
        partly = "hx-request" in request.headers
        if file is None:
            return _elsewhere(partly, "/done")
        template = "labelling/desk.html" if partly else "labelling/page.html"
        return self.pages(template, **self._context(name), **self._image_context(name, file, kind))

    def _context(self, name: str) -> dict[str, Any]:
        return {
            "folder": display_name(self._setup.folder),
            "name": name,
            "may_change_name": self._setup.labeller is None,
            "progress": self._desk.progress(name),
            "last": self._desk.last(name),
            "views": ScanRendering,
            "more": MORE,
        }

    def _image_context(self, name: str, file: str, kind: ScanRendering) -> dict[str, Any]:
        desk, image = self._desk, self._desk.images[file]
        following = desk.next_after(name, file)
        after = following and desk.next_after(name, following)
        return {
            "image": image,
            "place": desk.place(file),
            "size": in_words(image),
            "bar": scale_bar(image),
            "view": kind,
            "own_label": desk.own_label(name, file),
            "urls": {each: address_of(image, each) for each in ScanRendering},
            "scales": {each: address_of(image, each, "heights") for each in ScanRendering},
            # Fetched while a person looks at this image: the next one is there at once.
            "preloaded": [address_of(desk.images[f], kind) for f in (following, after) if f],
            "back": desk.beside(file, -1),
        }

    def take_answer(self, request: Request, fields: _Fields) -> Response:
        """Keep a label, or skip; then the next image."""
        name, file, answer = self._actor(fields), self._file(fields), fields.get("answer", "")
        following = self._desk.next_after(name, file)
        if answer == SKIP:
            # From an image that was labelled earlier to the one after it, not to the next open one.
            if self._desk.own_label(name, file):
                following = self._desk.beside(file, 1) or following
            self._desk.skip(name, file)
        elif answer in LABELS:
            self._desk.answer(name, file, answer)
        else:
            raise _BadRequest(f"an answer is one of {', '.join(LABELS)}, not {answer!r}")
        return self._desk_with(request, name, following, kind_of(fields))

    def undo(self, request: Request, fields: _Fields) -> Response:
        """Take the last step back and show its image; without one, stay."""
        name = self._actor(fields)
        file = self._desk.undo(name) or fields.get("file")
        if "hx-request" not in request.headers:
            return RedirectResponse(f"/?{urlencode({'file': file})}" if file else "/done", 303)
        if file not in self._desk.images:
            raise _BadRequest(f"there is no image {file!r} to label")
        return self._desk_with(request, name, file, kind_of(fields))

    def offer_skipped(self, request: Request, fields: _Fields) -> Response:
        """Let skipped images come again."""
        self._desk.offer_skipped(self._actor(fields))
        return RedirectResponse("/", 303)

    def picture(self, request: Request) -> Response:
        """Answer with an image as PNG; the same address always has the same picture."""
        return self._drawn(request, "image/png", lambda kind, content, span: content)

    def heights(self, request: Request) -> Response:
        """Answer with the scale of the colours of an image, as SVG."""
        return self._drawn(
            request, "image/svg+xml", lambda kind, content, span: height_scale(span, kind)
        )

    def _drawn(
        self,
        request: Request,
        media_type: str,
        draw: Callable[[ScanRendering, bytes, float], bytes | str],
    ) -> Response:
        image = self._desk.images.get(request.query_params.get("file", ""))
        if image is None:
            return Text("no such image", 404)
        kind, version = kind_of(request.query_params), request.query_params.get("version", "")
        try:
            setup = self._setup
            found = picture_of(image.path, version, kind, setup.pixels, setup.preprocessing)
        except (FileFormatError, ValueError) as error:
            return Text(str(error), 404)
        # The address has the file's version in it, so it never shows another picture.
        headers = {"Cache-Control": "private, max-age=86400, immutable"}
        return Response(draw(kind, *found), media_type=media_type, headers=headers)

    def ask_name(self, request: Request, refused: str = "") -> Response:
        """Ask who labels."""
        if self._setup.labeller is not None:
            return RedirectResponse("/", 303)
        return self.pages(
            "labelling/name.html",
            status=422 if refused else 200,
            name=self._name(request) or "",
            known=self._desk.labellers,
            refused=refused,
        )

    def take_name(self, request: Request, fields: _Fields) -> Response:
        """Let the browser keep a name."""
        given = fields.get("name", "")
        name = self._desk.known_as(given)
        if name is None:
            return self.ask_name(request, refused=given)
        response = RedirectResponse("/", 303)
        # Quoted: a name may have letters that no header takes.
        response.set_cookie(
            _COOKIE, quote(name), max_age=_YEAR_S, httponly=True, samesite="strict", path="/"
        )
        return response

    def show_done(self, request: Request) -> Response:
        """Answer with the progress, and how to go on."""
        name = self._name(request)
        if name is None:
            return RedirectResponse("/name", 303)
        self._desk.refresh()
        folder = as_typed(self._setup.folder.absolute())
        return self.pages(
            "labelling/done.html",
            **self._context(name),
            training=self._desk.for_training(),
            agreements=self._desk.agreements(),
            left_out=self._setup.left_out,
            train=f"spm-gym train classifier --data {folder} --output mine.safetensors",
            label=f"spm-gym label {folder} --classifier mine.safetensors",
        )

    def show_forecast(self, request: Request) -> Response:
        """Answer with the part of a page that says what more labels would bring."""
        self._desk.refresh()
        facts = self._forecaster.facts()
        return self.pages("labelling/forecast.html", facts=facts, fewest=FEWEST_LABELS, more=MORE)

    def show_disagreements(self, request: Request) -> Response:
        """Answer with the images that people do not agree on."""
        name = self._name(request)
        if name is None:
            return RedirectResponse("/name", 303)
        self._desk.refresh()
        differing, hidden = self._desk.disagreements(name)
        open_ones = [each for each in differing if not each.labels.consensus]
        # Of very many, those that still need a decision.
        listed = differing if len(differing) <= _MOST_LISTED else open_ones[:_MOST_LISTED]
        return self.pages(
            "labelling/disagreements.html",
            **self._context(name),
            agreements=self._desk.agreements(),
            entries=[_entry(each) for each in listed],
            count=len(differing),
            with_consensus=len(differing) - len(open_ones),
            hidden=hidden,
        )

    def take_consensus(self, request: Request, fields: _Fields) -> Response:
        """Keep the consensus of all."""
        file, label = self._file(fields), fields.get("label", "")
        if label not in ("", *LABELS):
            raise _BadRequest(
                f"a consensus is one of {', '.join(LABELS)} or nothing, not {label!r}"
            )
        self._actor(fields)
        self._desk.set_consensus(file, label)
        return RedirectResponse("/disagreements", 303)

    def _name(self, request: Request) -> str | None:
        """Read who looks at the page."""
        if self._setup.labeller is not None:
            return self._setup.labeller
        return self._desk.known_as(unquote(request.cookies.get(_COOKIE, "")))

    def _actor(self, fields: _Fields) -> str:
        """Read who acts: the name on the page, which may be of another browser window."""
        name = self._desk.known_as(fields.get("labeller", ""))
        if name is None or self._setup.labeller not in (None, name):
            raise _BadRequest("this page belongs to another labeller: reload it")
        return name

    def _file(self, fields: _Fields) -> str:
        file = fields.get("file", "")
        if file not in self._desk.images:
            raise _BadRequest(f"there is no image {file!r} to label")
        return file


def _entry(differing: Disagreement) -> tuple[Any, ...]:
    """Give a disagreement with addresses of its picture and its colours, scale bar and size."""
    image, kind = differing.image, ScanRendering.LEVELLED
    addresses = address_of(image, kind), address_of(image, kind, "heights")
    return differing, *addresses, scale_bar(image), in_words(image)


def _elsewhere(partly: bool, path: str) -> Response:
    """Send a whole page, or the script of a part of one, to another page."""
    return Response(headers={"HX-Redirect": path}) if partly else RedirectResponse(path, 303)
