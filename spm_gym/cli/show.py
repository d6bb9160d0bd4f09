"""Make a picture of a scan, a run, an episode, a network, a training or an evaluation."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from spm_gym.assembly.pictures import LAST, Picture
from spm_gym.assembly.run_directory import CHECKPOINTS, TENSORBOARD, TRAINING
from spm_gym.atomic_file import remove_leftovers
from spm_gym.cli.options import add_config, add_force, add_set, refuse_unwritable
from spm_gym.config import Config, load_config
from spm_gym.errors import UsageError
from spm_gym.imaging.files import READERS
from spm_gym.journal.reader import JOURNAL

EPILOG = """examples:
  spm-gym show scan.sxm                     raw, levelled, as the network sees it, and what it says
  spm-gym show image.npy --size-nm 10       the file does not know its size
  spm-gym show my_scans/                    a contact sheet; also of several files
  spm-gym show RUN_DIR                      a run of spm-gym run: areas, probability, counts
  spm-gym show RUN_DIR --area 0             one approach area, large, every image in its place
  spm-gym show RUN_DIR --episode 3          an animation of a conditioning (.gif, .webp, .png)
  spm-gym show --episode --seed 4           the same on the simulator, by the agent in the package
  spm-gym show runs/demo                    a run of train.py: its learning curve; with --env real
                                            also --episode, --area, --scan and --what
  spm-gym show runs/demo/evaluation.json    what evaluate.py --json has written
  spm-gym show agent.safetensors            an agent's values; also a checkpoint (step_...)
  spm-gym show runs/belief/checkpoints/step_0000300   what a belief agent has learned of the actions
  spm-gym show classifier.safetensors       a classifier's probabilities

Files and folders of others may be shown: nothing in them is run (docs/safety.md, "Files from
others").

The picture is written into the current folder unless -o names another place; its ending chooses
the format (.png, .pdf, .svg).
"""
WEIGHTS = ".safetensors"
# Beyond these a number is meant in another unit.
_SIZES_NM = (0.01, 1e6)
_OF_A_RUN = ("what", "area", "scan", "episode")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options on a parser."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("paths", type=Path, nargs="*", metavar="PATH", help="what to show")
    parser.add_argument("-o", "--output", metavar="FILE", help="the picture")
    add_force(parser)
    run = parser.add_argument_group("of a run of spm-gym run").add_mutually_exclusive_group()
    run.add_argument(
        "--what", choices=["overview", "map", "timeline"], help="default: overview, all in one"
    )
    run.add_argument("--area", type=int, metavar="N", help="this approach area alone, large")
    run.add_argument("--scan", type=int, metavar="N", help="this scan")
    run.add_argument(
        "--episode",
        type=_episode,
        nargs="?",
        const=LAST,
        metavar="N",
        help="this conditioning as an animation (default: the last one); without PATH: one on the "
        "simulator",
    )
    parser.add_argument("--seed", type=int, metavar="S", help="of the episode on the simulator")
    scans = parser.add_argument_group("of scans")
    scans.add_argument(
        "--classifier", type=Path, metavar="FILE", help="classifies them (default: the run's, or "
        "the one in the package)"
    )  # fmt: skip
    scans.add_argument(
        "--size-nm", type=float, metavar="X", help="width of images whose file does not say it"
    )
    add_config(parser, "settings (YAML), of everything but runs, which have their own")
    add_set(parser, "env.good_above=0.8")
    parser.set_defaults(command=show)


def show(arguments: argparse.Namespace) -> int:
    """Recognise what the paths hold, make the picture, and print where it is."""
    _refuse_impossible(arguments)
    picture = _picture(arguments)
    output = _output(arguments.output) or Path(f"{picture.name}{picture.formats[0]}")
    if output.suffix.lower() not in picture.formats:
        raise UsageError(
            f"{output}: the name of this picture must end in {' or '.join(picture.formats)}"
        )
    refuse_unwritable("-o", output, arguments.force)
    remove_leftovers(output.parent)
    picture.write(output)
    print(f"{output} ({output.stat().st_size / 1e3:.0f} kB)")
    return 0


def _episode(text: str) -> int | str:
    try:
        return text if text == LAST else int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"a number or {LAST!r}, not {text!r}") from None


def _output(text: str | None) -> Path | None:
    if text is None:
        return None
    if text.endswith(("/", os.sep)) or Path(text).is_dir():
        raise UsageError(f"{text} is a folder: name the picture in it")
    return Path(text)


def _refuse_impossible(arguments: argparse.Namespace) -> None:
    if arguments.seed is not None and (arguments.paths or arguments.episode is None):
        raise UsageError("--seed goes with --episode without a PATH: an episode on the simulator")
    if arguments.seed is not None and arguments.seed < 0:
        raise UsageError(f"--seed must be at least 0, not {arguments.seed}")
    size = arguments.size_nm
    smallest, largest = _SIZES_NM
    if size is not None and not smallest <= size <= largest:
        raise UsageError(f"--size-nm must be from {smallest:g} to {largest:g}, not {size:g}")
    if not arguments.paths and arguments.episode is None:
        raise UsageError("name what to show: a scan, a run, a file of weights (--help lists all)")
    if not arguments.paths and arguments.episode != LAST:
        raise UsageError("--episode N goes with a run: name it; or choose another --seed instead")
    for path in arguments.paths:
        if not path.exists():
            raise UsageError(f"there is no {path}")
        # A pipe would be waited for without end.
        if not path.is_file() and not path.is_dir():
            raise UsageError(f"{path} is neither a file nor a folder but a pipe or a device")


def _picture(arguments: argparse.Namespace) -> Picture:
    # Heavy: matplotlib and torch.
    from spm_gym.assembly.pictures import networks, run, scans
    from spm_gym.assembly.process import prepare_process

    # One thread: the picture may be of a run at work, which must not wait for it.
    prepare_process(1)
    config = load_config(arguments.config, arguments.set)
    if not arguments.paths:
        return networks.simulated_episode(config, arguments.seed or 0)
    path: Path = arguments.paths[0]
    if len(arguments.paths) == 1 and _is_operation(path, arguments):
        _refuse(arguments, "a run", ("size_nm", "config", "set"))
        return run.of_run(path, arguments)
    _refuse(arguments, "not a run of spm-gym run", _OF_A_RUN)
    if len(arguments.paths) == 1 and not _holds_scans(path):
        _refuse(arguments, "not a scan", ("classifier", "size_nm"))
        return _learned(path, config)
    return scans.of_scans(arguments.paths, arguments.classifier, arguments.size_nm, config.env)


def _is_operation(path: Path, arguments: argparse.Namespace) -> bool:
    """Check whether a picture is drawn from a journal; a training by default shows its learning."""
    asked = any(getattr(arguments, option) not in (None, []) for option in _OF_A_RUN)
    return (path / JOURNAL).is_file() and (asked or not (path / TRAINING).is_file())


def _refuse(arguments: argparse.Namespace, what: str, options: tuple[str, ...]) -> None:
    for option in options:
        if getattr(arguments, option) not in (None, []):
            name = option.replace("_", "-")
            raise UsageError(f"{arguments.paths[0]} is {what}: leave out --{name}")


def _holds_scans(path: Path) -> bool:
    if path.is_file():
        return path.suffix.lower() in READERS
    return any(
        each.suffix.lower() in READERS and not each.name.startswith(".") for each in path.iterdir()
    )


def _learned(path: Path, config: Config) -> Picture:
    """Draw what training or evaluation has left."""
    from spm_gym.assembly.pictures import networks

    if path.is_dir():
        if (path / TENSORBOARD).is_dir():
            return networks.of_training(path, path / TENSORBOARD)
        checkpoint = networks.newest_checkpoint(path)
        if checkpoint is not None:
            return networks.of_checkpoint(checkpoint)
        raise UsageError(
            f"{path} holds no scans ({', '.join(READERS)}), and is no run ({JOURNAL}), no training "
            f"({TENSORBOARD}/) and no checkpoint ({CHECKPOINTS}/step_...)"
        )
    if path.suffix.lower() == WEIGHTS:
        return networks.of_weights(path, config.env)
    if path.suffix.lower() == ".json":
        return networks.of_evaluation(path)
    known = ", ".join([*READERS, WEIGHTS, ".json"])
    raise UsageError(f"{path}: {path.suffix or 'no suffix'!r} cannot be shown; known are {known}")
