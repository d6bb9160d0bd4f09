"""Play a Nanonis controller: the vendor's TCP protocol over a simulated microscope."""

from __future__ import annotations

import argparse
import sys
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from spm_gym.assembly.microscope import print_line
from spm_gym.assembly.process import announce_compiling
from spm_gym.assembly.simulator import compile_simulator, virtual_controller
from spm_gym.cli.options import add_config, add_log_commands, add_set, time_scale
from spm_gym.config import Config, load_config
from spm_gym.errors import UsageError
from spm_gym.instrument.nanonis.command_log import SERVER, commands_logged
from spm_gym.instrument.nanonis.commands import RELEASES
from spm_gym.instrument.nanonis.exchange import By
from spm_gym.network import is_loopback
from spm_gym.servers.nanonis.conversation import Answering
from spm_gym.servers.nanonis.faults import Fault, load_faults
from spm_gym.servers.nanonis.recording import read_log
from spm_gym.servers.nanonis.replay import Replay
from spm_gym.servers.nanonis.server import PORTS, VirtualNanonis

_LOG = "virtual-nanonis.jsonl"
"""Not that of the client, which may well run in the same folder."""

EPILOG = """examples:
  spm-gym virtual-nanonis                           in real time, on the ports of a real one
  spm-gym virtual-nanonis --time-scale 20           twenty times faster
  spm-gym virtual-nanonis --time-scale off          waiting takes no time
  spm-gym virtual-nanonis --faults faults.yaml      something goes wrong on purpose
  spm-gym virtual-nanonis --set simulator.crash_rate=0.1
  spm-gym virtual-nanonis --log-commands asked.jsonl everything that clients ask, and the answers
  spm-gym virtual-nanonis --replay commands.jsonl*  answer as the controller of a log did

a fault, for example:
  - {fault: drop, command: TipShaper.Start, nth: 2, when: after}
"""

_OF_THE_SIMULATOR = (
    "faults", "session", "retract", "zero_filled", "without", "time_scale", "seed", "release",
    "config", "set",
)  # fmt: skip
"""Options that a replay has no use for."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options on a parser."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument(
        "--ports",
        nargs="+",
        type=_ports,
        # Nested, for every word of the option is a range.
        default=[list(PORTS)],
        metavar="N",
        help="such as 6501-6504 (default) or 6501 6502; 0 is any free one",
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: %(default)s)"
    )
    parser.add_argument(
        "--release",
        type=int,
        choices=RELEASES,
        default=RELEASES[-1],
        help="of the software that is played (default: %(default)s)",
    )
    parser.add_argument(
        "--time-scale",
        type=time_scale,
        default=1.0,
        metavar="X",
        help="how much faster than real time; 'off': waiting takes no time (default: 1)",
    )
    parser.add_argument("--seed", type=int, metavar="S", help="sets seed: of surface and probe")
    _add_controller(parser)
    parser.add_argument(
        "--replay",
        type=Path,
        nargs="+",
        default=[],
        metavar="LOG",
        help="answer from a log that --log-commands has written, on either side, instead of "
        "simulating; all its parts, in any order",
    )
    add_log_commands(parser, _LOG)
    add_config(parser)
    add_set(parser, "simulator.drift_pm_per_s=0")
    defaults = {name: parser.get_default(name) for name in _OF_THE_SIMULATOR}
    parser.set_defaults(command=serve, defaults=defaults)


def _add_controller(parser: argparse.ArgumentParser) -> None:
    """Declare what kind of controller is played, and what goes wrong with it."""
    parser.add_argument("--faults", type=Path, metavar="FILE", help="what goes wrong (YAML)")
    parser.add_argument(
        "--session",
        type=Path,
        metavar="DIR",
        help="for scans that are saved; clients may choose folders below it (default: a new one in "
        "the system's temporary folder)",
    )
    parser.add_argument(
        "--retract",
        choices=["z+", "z-"],
        default="z+",
        help="motor direction away from the sample (default: %(default)s)",
    )
    parser.add_argument(
        "--zero-filled",
        action="store_true",
        help="the live buffer of a scan holds zeros, not NaN, where nothing was scanned yet",
    )
    parser.add_argument(
        "--without",
        action="append",
        default=[],
        metavar="MODULE",
        help="a module that is not running, such as TipShaper: its commands are refused; may be "
        "given again",
    )


def serve(arguments: argparse.Namespace) -> int:
    """Serve until Ctrl-C or SIGTERM."""
    if not arguments.host:
        raise UsageError("--host must be an address, such as 127.0.0.1, not ''")
    if arguments.replay:
        return _replay(arguments)
    config = _settings(arguments)
    faults = load_faults(arguments.faults) if arguments.faults else ()
    announce_compiling()
    # Before listening: a client's time limit would pass while its first scan is compiled.
    compile_simulator(config)
    try:
        controller = virtual_controller(
            config,
            config.seed,
            release=arguments.release,
            time_scale=arguments.time_scale,
            retract=arguments.retract,
            session=arguments.session,
            zero_filled=arguments.zero_filled,
            without=arguments.without,
        )
    except ValueError as error:
        raise UsageError(f"--without: {error}") from error
    scale = f"{arguments.time_scale:g}" if arguments.time_scale else "off"
    try:
        _hold(
            arguments,
            "virtual-nanonis",
            controller,
            f"time scale {scale}, seed {config.seed}, saved scans in {controller.session.root}",
            faults,
        )
    finally:
        # A folder for saved scans is made at every start, and most clients save none.
        controller.session.discard_if_empty()
    return 0


def _replay(arguments: argparse.Namespace) -> int:
    """Answer from a log, and report how well it has fitted."""
    # An option that changes nothing would be taken for one that does.
    for name, default in arguments.defaults.items():
        if getattr(arguments, name) != default:
            option = f"--{name.replace('_', '-')}"
            raise UsageError(f"{option} is of the simulated controller: --replay goes without it")
    recording = read_log(arguments.replay)
    replay = Replay(recording.exchanges, print_line)
    count, by, when = len(recording.exchanges), recording.header.by, recording.header.time
    text = f"replaying {count} commands recorded by the {by} {when:%Y-%m-%d %H:%M} UTC"
    _hold(arguments, "replay", replay, text)
    print(replay.report())
    return 0


def _hold(
    arguments: argparse.Namespace,
    by: By,
    controller: Answering,
    described: str,
    faults: Sequence[Fault] = (),
) -> None:
    """Serve a controller until Ctrl-C."""
    if not is_loopback(arguments.host):
        print(
            f"warning: anybody who reaches {arguments.host} can drive this controller: the "
            "protocol has no authentication",
            file=sys.stderr,
        )
    try:
        # The log first: a client may be there as soon as the ports are.
        with _logged(arguments, by), _served(arguments, controller, faults) as server:
            ports = " ".join(str(port) for port in server.ports)
            print(
                f"virtual Nanonis R{controller.release} on {arguments.host} ports {ports}, "
                f"{described}; Ctrl-C ends it",
                flush=True,
            )
            # Windows has no signal.pause.
            threading.Event().wait()
    except KeyboardInterrupt:
        print("ended")


def _logged(arguments: argparse.Namespace, by: By) -> AbstractContextManager[None]:
    if arguments.log_commands is None:
        return nullcontext()
    endpoint = f"{arguments.host}:{','.join(map(str, _numbers(arguments)))}"
    file = Path(arguments.log_commands or _LOG)
    return commands_logged(SERVER, file, by, endpoint, print_line)


def _numbers(arguments: argparse.Namespace) -> list[int]:
    return [port for group in arguments.ports for port in group]


def _settings(arguments: argparse.Namespace) -> Config:
    overrides = list(arguments.set)
    if arguments.seed is not None:
        overrides.append(f"seed={arguments.seed}")
    return load_config(arguments.config, overrides)


def _served(
    arguments: argparse.Namespace, controller: Answering, faults: Sequence[Fault]
) -> VirtualNanonis:
    try:
        return VirtualNanonis(controller, _numbers(arguments), arguments.host, faults)
    except OSError as error:
        raise UsageError(
            f"cannot listen on {arguments.host} port {error.filename}: {error.strerror}; choose "
            "others with --ports"
        ) from error


def _ports(text: str) -> list[int]:
    first, _, last = text.partition("-")
    if not (first.isdecimal() and (last or first).isdecimal()):
        raise argparse.ArgumentTypeError(f"ports are given as 6501 or 6501-6504, not {text!r}")
    if not int(first) <= int(last or first) <= 65535:
        raise argparse.ArgumentTypeError(f"ports go upwards from 0 to 65535, not {text!r}")
    return list(range(int(first), int(last or first) + 1))
