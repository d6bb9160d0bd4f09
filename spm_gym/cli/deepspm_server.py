"""Play the server of the original DeepSPM: its text protocol over a simulated microscope."""

from __future__ import annotations

import argparse

from spm_gym.assembly.process import announce_compiling
from spm_gym.assembly.simulator import build_microscope, compile_simulator, world_seed
from spm_gym.cli.options import add_config, add_set
from spm_gym.config import load_config
from spm_gym.errors import UsageError
from spm_gym.instrument.deepspm.protocol import PORT
from spm_gym.scale import NM
from spm_gym.servers.deepspm import DeepSPMServer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options on a parser."""
    parser.add_argument("--port", type=int, default=PORT, help="default: %(default)s; 0 is any")
    parser.add_argument(
        # This computer only: the protocol has no authentication.
        "--host",
        default="127.0.0.1",
        help="address to listen on (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of surface and probe")
    add_config(parser)
    add_set(parser, "simulator.drift_pm_per_s=0")
    parser.set_defaults(command=serve)


def serve(arguments: argparse.Namespace) -> int:
    """Serve until Ctrl-C or SIGTERM."""
    config = load_config(arguments.config, arguments.set)
    announce_compiling()
    # Before listening: half a minute of compiling looks like a dead server to a client.
    compile_simulator(config)
    microscope = build_microscope(config, world_seed(arguments.seed))
    area = config.env.regions.area_nm * NM
    try:
        server = DeepSPMServer(microscope, arguments.host, arguments.port, area=area)
    except OSError as error:
        raise UsageError(
            f"cannot listen on {arguments.host} port {arguments.port}: {error.strerror}; choose "
            "another with --port"
        ) from error
    with server:
        host, port = server.address
        # At once, through a pipe too: scripts wait for this line before they connect.
        print(f"DeepSPM server on {host} port {port}; Ctrl-C ends it", flush=True)
        try:
            server.wait()
        except KeyboardInterrupt:
            print("ended")
    return 0
