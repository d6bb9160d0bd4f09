"""Play a linescope: ``python -m spm_gym_linescope.server --port 7077``."""

from __future__ import annotations

import argparse
import contextlib
import socketserver
import threading
from collections.abc import Sequence

from spm_gym.assembly.simulator import build_microscope, compile_simulator, world_seed
from spm_gym.config import load_config
from spm_gym_linescope.bench import Bench
from spm_gym_linescope.protocol import LONGEST_LINE, PORT

_SEEN_OFF_S = 5.0


class LinescopeServer(socketserver.ThreadingTCPServer):
    """Serves a bench to one client at a time; others are refused: two would fight over the tip.

    Args:
        bench: Answers.
        address: Host and port to listen on; port 0 is any that is free.
    """

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, bench: Bench, address: tuple[str, int] = ("127.0.0.1", 0)) -> None:
        self.bench = bench
        self.in_use = threading.Lock()
        super().__init__(address, _Client)


class _Client(socketserver.StreamRequestHandler):
    server: LinescopeServer
    disable_nagle_algorithm = True

    def handle(self) -> None:
        # A client that has just gone is still being seen off when the next one comes.
        if not self.server.in_use.acquire(timeout=_SEEN_OFF_S):
            self._send("error failed another program uses this linescope")
            return
        try:
            while request := self.rfile.readline(LONGEST_LINE):
                # Carried out once, also if the client is gone by then.
                self._send(self.server.bench.answer(request.decode("ascii", "replace").strip()))
        finally:
            self.server.in_use.release()

    def _send(self, reply: str) -> None:
        with contextlib.suppress(OSError):  # the client is gone, and will ask what happened
            self.wfile.write(reply.encode("ascii", "replace") + b"\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="default: %(default)s")
    parser.add_argument("--port", type=int, default=PORT, help="default: %(default)s; 0 is any")
    parser.add_argument("--seed", type=int, default=0, help="of surface and probe; default: 0")
    parser.add_argument("--set", nargs="+", default=[], metavar="key=value", help="of spm-gym")
    given = parser.parse_args(arguments)
    config = load_config(None, given.set)
    compile_simulator(config)
    microscope = build_microscope(config, world_seed(given.seed))
    bench = Bench(microscope, config.env.regions.area_nm * 1e-9)
    with LinescopeServer(bench, (given.host, given.port)) as server:
        host, port = server.server_address[:2]
        print(f"linescope on {host!s} port {port}; Ctrl-C ends it", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("ended")


if __name__ == "__main__":
    main()
