"""Connections that nobody can hold on to: a server has few, and some clients send nothing."""

from __future__ import annotations

from asyncio import TimerHandle, Transport

from uvicorn.protocols.http.h11_impl import H11Protocol

MOST = 100
"""Fewer than the files that a process may open anywhere; a browser takes six at most."""

ACCEPTED_AT_ONCE = 50
_PATIENCE_S = 20.0


class BoundedConnection(H11Protocol):
    """A connection that is given up if its other end keeps it waiting.

    Nobody waits longer than `_PATIENCE_S` for a request to be complete, nor for anything more of an
    answer to be taken. Beyond `MOST` connections the one that has kept this server waiting longest
    makes room at once: a whole request is answered, however many others send half of one.
    """

    _timer: TimerHandle
    _waits_since = 0.0
    _left_to_send = 0
    _given_up = False

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Make room if there is none, and begin to wait."""
        super().connection_made(transport)
        self._waits_since = self.loop.time()
        self._timer = self.loop.call_later(_PATIENCE_S, self._check)
        kept = [
            each
            for each in self.connections
            if isinstance(each, BoundedConnection) and not each._given_up
        ]
        if len(kept) > MOST:
            waiting = [each for each in kept if not each._is_served() and each is not self]
            min(waiting, key=lambda each: each._waits_since, default=self)._give_up()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._timer.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        self._waits_since = self.loop.time()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Wait until what was sent is taken."""
        self._waits_since = self.loop.time()
        self._left_to_send = self.transport.get_write_buffer_size()
        super().pause_writing()

    def _is_served(self) -> bool:
        """Tell whether it is our turn: the request is whole, the answer is not."""
        cycle = self.cycle
        started = cycle is not None and not (cycle.more_body or cycle.response_complete)
        return started and not self.flow.write_paused

    def _check(self) -> None:
        before, self._left_to_send = self._left_to_send, self.transport.get_write_buffer_size()
        if 0 < self._left_to_send < before:
            self._waits_since = self.loop.time()
        left = self._waits_since + _PATIENCE_S - self.loop.time()
        if self._is_served():
            left = _PATIENCE_S
        if left > 0:
            self._timer = self.loop.call_later(left, self._check)
        else:
            self._give_up()

    def _give_up(self) -> None:
        self._given_up = True
        self.transport.abort()
