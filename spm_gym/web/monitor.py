"""The live page of a run: read from its directory, in a process of its own."""

from __future__ import annotations

import hashlib
import logging
import sqlite3
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import wraps
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from spm_gym import colours
from spm_gym.analysis.decisions import last_decision
from spm_gym.analysis.events import FIRST_ROWS, event_log, last_failure, last_trouble
from spm_gym.analysis.instrument_state import instrument
from spm_gym.analysis.lengths import histograms
from spm_gym.analysis.measurement import measurement
from spm_gym.analysis.policies import policy_episodes
from spm_gym.analysis.progress import progress
from spm_gym.analysis.scans import scan_at, scan_row
from spm_gym.analysis.series import series
from spm_gym.analysis.session import last_session
from spm_gym.analysis.status import status_of
from spm_gym.analysis.trend import trend
from spm_gym.analysis.wording import SURVEY
from spm_gym.figures.area_map import live_map
from spm_gym.figures.heights import ScanRendering, grey_words
from spm_gym.figures.scan_view import prepare, scan_picture, scan_view
from spm_gym.figures.tiles import Painter
from spm_gym.figures.trend import small_charts
from spm_gym.imaging.files import FileFormatError
from spm_gym.journal.reader import JOURNAL, JournalError, reading
from spm_gym.journal.run_lock import is_run_locked
from spm_gym.paths import display_name
from spm_gym.runner.control import asked_of
from spm_gym.runner.run_state import read_run_state
from spm_gym.scale import NM
from spm_gym.web import monitor_words
from spm_gym.web.access import Access
from spm_gym.web.control import control_route, controls
from spm_gym.web.pages import Pages, Text, application

_LOG = logging.getLogger(__name__)
_UNCHANGED = Response(status_code=204)
_FOR_EVER = {"Cache-Control": "private, max-age=31536000, immutable"}
"""Of pictures that have an address of their own in every version."""


@dataclass(frozen=True, slots=True)
class PageView:
    """Choices of one browser window.

    Attributes:
        scan: Number of a scan; None follows the run.
        kind: How it is displayed.
        area: Number of an approach area; None follows the run.
        events: Kind of the events; "" for all.
        rows: Number of events.
    """

    scan: int | None
    kind: ScanRendering
    area: int | None
    events: str
    rows: int

    @classmethod
    def of(cls, request: Request) -> PageView:
        """Read the choices of a request; those that make no sense are left out."""
        asked = request.query_params
        kind = asked.get("kind", "")
        return cls(
            scan=_whole(asked.get("scan", "")),
            kind=ScanRendering(kind) if kind in {*ScanRendering} else ScanRendering.LEVELLED,
            area=_whole(asked.get("area", "")),
            events=asked.get("events", ""),
            rows=max(_whole(asked.get("rows", "")) or 0, FIRST_ROWS),
        )


def monitor(run: Path, access: Access) -> Starlette:
    """Make the live page of a run.

    Args:
        run: The run directory; nothing in it is changed but through the controls.
        access: Who may read, and who may act.
    """
    pages = Pages(**monitor_words.FILTERS)
    page = LivePage(run, access, pages)
    routes = [
        Route("/", page.whole),
        Route("/now", page.now),
        Route("/series", page.series),
        Route("/scans/{number}/{kind}.png", page.scan_picture),
        Route("/areas/{area}/{tile}.webp", page.tile),
        Route("/areas/{area}/at", page.at),
        control_route(run, access),
    ]
    return application(routes, pages, access)


Handler = Callable[["LivePage", Request], Response]


def _readable(handler: Handler) -> Handler:
    """Have a handler answer with the fault of a journal that cannot be read."""

    @wraps(handler)
    def handle(page: LivePage, request: Request) -> Response:
        try:
            return handler(page, request)
        except (JournalError, sqlite3.Error) as error:
            return Text(f"the journal cannot be read: {error}", 503)
        except Exception as error:  # a damaged journal may hold anything
            _LOG.exception("the journal makes no sense")
            what = f"{type(error).__name__}: {error}"[:300]
            return Text(f"the journal makes no sense: {what}", 503)

    return handle


class LivePage:
    """Answers the requests of the page, each from a journal of one moment."""

    def __init__(self, run: Path, access: Access, pages: Pages) -> None:
        self._run = run
        self._access = access
        self._pages = pages
        # One for all windows: tiles are painted once, for all who ask.
        self._painter = Painter(run)
        prepare()

    @_readable
    def whole(self, request: Request) -> Response:
        """Answer with the page and everything in it."""
        return self._pages("monitor/page.html", **self._context(request))

    @_readable
    def now(self, request: Request) -> Response:
        """Answer with what changes; with nothing if the page has it already."""
        # Most questions end here, so that a page left open costs next to nothing.
        if request.query_params.get("version") == self._version(request):
            return _UNCHANGED
        return self._pages("monitor/now.html", **self._context(request))

    @_readable
    def series(self, request: Request) -> Response:
        """Answer with the data of the chart after a scan."""
        with reading(self._run) as db:
            return JSONResponse(series(db, _whole(request.query_params.get("after", "")) or 0))

    @_readable
    def scan_picture(self, request: Request) -> Response:
        """Answer with a scan as PNG."""
        kind = request.path_params["kind"]
        with reading(self._run) as db:
            # In the same transaction: the settings of another session would draw the scan
            # differently.
            number = _whole(request.path_params["number"])
            row = scan_row(db, number)
            preprocessing = last_session(db).preprocessing
        if row is None or kind not in {*ScanRendering}:
            return Text("there is no such picture", 404)
        try:
            image = scan_picture(self._run, row, ScanRendering(kind), preprocessing)
        except FileFormatError as error:
            return Text(str(error), 404)
        return Response(image, media_type="image/png", headers=_FOR_EVER)

    def tile(self, request: Request) -> Response:
        """Answer with a part of the map of an approach area."""
        column, _, row = request.path_params["tile"].partition("_")
        try:
            place = int(request.path_params["area"]), int(column), int(row)
        except ValueError:
            return Text("tiles are named COLUMN_ROW", 404)
        image = self._painter.picture(*place)
        if image is None:
            return Text("there is no such tile", 404)
        return Response(image, media_type="image/webp", headers=_FOR_EVER)

    @_readable
    def at(self, request: Request) -> Response:
        """Answer with the scan at a place (nm) of an area, or null."""
        asked = request.query_params
        try:
            x, y = float(asked.get("x", "")) * NM, float(asked.get("y", "")) * NM
        except ValueError:
            return Text("x and y are numbers, nm", 400)
        with reading(self._run) as db:
            scan = scan_at(db, _whole(request.path_params["area"]), x, y)
        return JSONResponse({"scan": scan})

    def _version(self, request: Request) -> str:
        """Hash everything that a page for this request depends on."""
        files = [self._run / JOURNAL, self._run / f"{JOURNAL}-wal"]
        # Cheaper than a query: most questions are answered by "nothing is new".
        sizes = [(s.st_mtime_ns, s.st_size) for s in (f.stat() for f in files if f.exists())]
        view = PageView.of(request)
        state = (sizes, is_run_locked(self._run), asked_of(self._run, self._access.token),
                 self._access.may_act(request), asdict(view), self._painter.key,
                 self._painter.version())  # fmt: skip
        return hashlib.sha256(repr(state).encode()).hexdigest()[:16]

    def _context(self, request: Request) -> dict[str, Any]:
        view, version, now = PageView.of(request), self._version(request), time.time()
        # Asked before the journal is read: a run that ends meanwhile has its end in it.
        at_work = is_run_locked(self._run)
        with reading(self._run) as db:
            run_state, session = read_run_state(db), last_session(db)
            status = status_of(db, run_state, session, at_work, str(self._run))
            # A run that is not at work or pauses has no end that could be foretold.
            under_way = now if at_work and status.late_s is not None else None
            return {
                "name": display_name(self._run),
                "page_version": version,
                "now": now,
                "view": view,
                "session": session,
                "survey": SURVEY,
                "run_status": status,
                "measurement": measurement(db),
                "instrument": instrument(db, run_state, at_work),
                "progress": progress(db, run_state, session, under_way),
                "trouble": last_trouble(db),
                "failure": last_failure(db),
                "scan": scan_view(
                    db,
                    self._run,
                    run_state,
                    view.scan,
                    session.preprocessing,
                    None if session.settings is None else session.settings.env,
                    status.over,
                ),
                "decision": last_decision(db, session),
                "grey": grey_words(session.preprocessing.scale),
                "trend": small_charts(trend(db)),
                "map": live_map(db, self._painter, run_state, view.area),
                "policies": (policies := policy_episodes(db)),
                "histograms": histograms(policies),
                "log": event_log(db, view.events, view.rows),
                "colours": colours.LABELS,
                "blocked_colours": colours.BLOCKED,
                "controls": controls(self._run, self._access, request),
            }


def _whole(text: str) -> int | None:
    """Parse a number, if SQLite takes it as well."""
    # Its integers have 64 bits; longer ones are an error in the driver, not an empty answer.
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None
