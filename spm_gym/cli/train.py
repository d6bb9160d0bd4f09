"""Train the agent (default), the image classifier, or the recogniser of probe classes."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from spm_gym.assembly.drivers import log_commands, refuse_without_log
from spm_gym.assembly.microscope import print_line
from spm_gym.assembly.run_directory import (
    CLASSIFIER,
    LEARNING_CURVE,
    RECOGNISER,
    TENSORBOARD,
    TRAINING,
    existing_classifier,
    existing_training,
    new_run,
)
from spm_gym.atomic_file import remove_leftovers
from spm_gym.cli import run_command
from spm_gym.cli.options import (
    add_config,
    add_env,
    add_force,
    add_run_directory,
    add_set,
    refuse_unwritable,
)
from spm_gym.config import Config, load_config
from spm_gym.errors import UsageError
from spm_gym.journal.run_lock import locked_run
from spm_gym.paths import as_typed, is_text

EPILOG = """examples:
  python train.py                                   the default agent on the simulator
  python train.py --config configs/smoke.yaml       a few seconds, to see that all is well
  python train.py --agent belief                    learn what the actions do to the probe, which
                                                    takes hundreds of actions, not thousands
  python train.py --agent belief --prior RUN        ... going on from what an earlier run learned
  python train.py --resume                          continue the newest run after a kill
  python train.py --resume --steps 10000            ... or train a finished one on
  python train.py --seed 3 --reproducible           the same agent again, bit for bit
  python train.py --set agent.replay_ratio=2        any setting; see configs/default.yaml
  python train.py --env real --config configs/real.yaml     on an instrument; see docs/lab.md
  python train.py classifier                        the classifier, on simulated images
  python train.py classifier --data my_images/      the classifier, on labelled images of yours
  python train.py classifier --data my_images/ --unlabelled archive/
                                                    ... after learning from unlabelled scans
  python train.py classifier --resume               continue its newest training after a kill
  python train.py recogniser                        which of the sixteen classes a probe is of

A run of somebody else that is continued holds data: nothing in it is run; but its settings decide
which instrument is used (docs/safety.md, "Files from others").
"""

_WITHOUT = {"data": "simulated", "unlabelled": "no further"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options on a parser."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument(
        "what", nargs="?", choices=["agent", "classifier", "recogniser"], default="agent",
        help="default: agent",
    )  # fmt: skip
    add_config(parser)
    add_env(parser)
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="show every command to the real microscope instead of sending it",
    )
    parser.add_argument(
        "--agent",
        choices=["double-dqn", "belief"],
        help="sets agent.kind: the paper's double DQN (default) or the belief agent, "
        "docs/belief.md",
    )
    parser.add_argument(
        "--prior",
        metavar="none|simulator|RUN",
        help="sets agent.belief.prior, what the belief agent knows of the actions: nothing "
        "(default), the table of transitions in the package, or what an earlier run has learned",
    )
    parser.add_argument(
        "--steps",
        type=int,
        metavar="N",
        help="sets agent.steps; with --resume: train on until there are so many in all",
    )
    parser.add_argument(
        "--seed",
        type=int,
        metavar="S",
        help="sets seed; two runs with the same one differ nevertheless, unless --reproducible",
    )
    parser.add_argument(
        "--reproducible",
        action="store_true",
        help="the same seed gives the same agent, bit for bit, on the same machine: acting and "
        "learning take turns instead of sharing the time (sets agent.parallel=false)",
    )
    add_run_directory(parser, "runs/<date>_<env>")
    add_set(parser, "agent.gamma=0.9")
    _add_classifier(parser)
    add_force(parser)
    parser.set_defaults(command=train)


def _add_classifier(parser: argparse.ArgumentParser) -> None:
    """Declare the options of training a classifier, and of what is written."""
    classifier = parser.add_argument_group("classifier")
    classifier.add_argument(
        "--data",
        type=Path,
        metavar="PATH",
        help="train on labelled images instead of simulated ones: a folder of .npy, .sxm or .gsf "
        "with labels in manifest.csv or in good/ and bad/ folders, or an .npz file "
        "(docs/classifier.md); sets classifier.data; with --resume: where they lie now",
    )
    classifier.add_argument(
        "--unlabelled",
        type=Path,
        metavar="PATH",
        help="with --data: further scans of the lab, a folder or .npz likewise, from which the "
        "network learns before it sees a label; sets classifier.unlabelled; with --resume: where "
        "they lie now",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="also write the trained agent, classifier or recogniser here (.safetensors)",
    )
    parser.add_argument(
        "--print-config", action="store_true", help="print the settings in force and stop"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of train.py."""
    parser = argparse.ArgumentParser(prog="train.py", description=__doc__)
    add_arguments(parser)
    return run_command(parser, arguments)


def train(arguments: argparse.Namespace) -> int:
    """Train what the command line asks for."""
    run, config = _resumed(arguments) if arguments.resume else (None, _settings(arguments))
    # Before anything is refused: the settings show why something is.
    if arguments.print_config:
        print(config.to_yaml(), end="")
        return 0
    _refuse_impossible(arguments, config)
    if arguments.what == "classifier":
        from spm_gym.assembly.classifier_training import resume_classifier, train_classifier

        if run is not None:
            return resume_classifier(config, run, arguments.output)

        def create_run(in_force: Config) -> AbstractContextManager[Path]:
            return new_run(arguments.run_dir, in_force, "classifier", CLASSIFIER)

        return train_classifier(config, create_run, arguments.output)
    if arguments.what == "recogniser":
        return _train_recogniser(arguments, config)
    from spm_gym.assembly.classifier import fitted_to_classifier
    from spm_gym.assembly.double_dqn_training import write_weights
    from spm_gym.assembly.training import resume_agent, train_agent

    config = fitted_to_classifier(config)

    if run is not None:
        with locked_run(run), log_commands(arguments.log_commands, config, run, print_line):
            remove_leftovers(run)
            print(f"continuing {run}")
            resume_agent(config, run, arguments.fresh_area)
            if arguments.output:
                write_weights(config, run, arguments.output)
        return _print_next_steps(run)
    if arguments.dry_run:
        # What the agent learns from invented replies is worth nothing, and would look like a run.
        with TemporaryDirectory() as folder:
            train_agent(config, Path(folder), dry_run=True)
        print("dry run: nothing was sent, nothing was kept")
        return 0
    with new_run(arguments.run_dir, config, config.run.microscope, TRAINING) as run:
        with log_commands(arguments.log_commands, config, run, print_line):
            train_agent(config, run)
        if arguments.output:
            write_weights(config, run, arguments.output)
    return _print_next_steps(run)


def _train_recogniser(arguments: argparse.Namespace, config: Config) -> int:
    from spm_gym.assembly.classifier import with_classifier_scale
    from spm_gym.assembly.recogniser_training import train_recogniser

    # Its images have the settings' own size, which no classifier has to take.
    config = with_classifier_scale(config)
    create = partial(new_run, arguments.run_dir, config, "recogniser", RECOGNISER, [TENSORBOARD])
    return train_recogniser(config, create, arguments.output)


def _print_next_steps(run: Path) -> int:
    print(f"  evaluate it    python evaluate.py --run {as_typed(run)}")
    print(f"  look at it     {run / LEARNING_CURVE}, tensorboard --logdir {as_typed(run)}")
    return 0


def _settings(arguments: argparse.Namespace) -> Config:
    overrides = list(arguments.set)
    if arguments.steps is not None:
        overrides.append(f"agent.steps={arguments.steps}")
    if arguments.env is not None:
        overrides.append(f"run.microscope={arguments.env}")
    if arguments.seed is not None:
        overrides.append(f"seed={arguments.seed}")
    if arguments.reproducible:
        overrides.append("agent.parallel=false")
    if arguments.agent is not None:
        overrides.append(f"agent.kind={arguments.agent}")
    if arguments.prior is not None:
        # Quoted: a folder may have a name that YAML would take for a number or a list.
        overrides.append(f"agent.belief.prior={json.dumps(arguments.prior)}")
    return _with_data(load_config(arguments.config, overrides), arguments)


def _with_data(config: Config, arguments: argparse.Namespace) -> Config:
    """Take --data and --unlabelled into the settings."""
    given = {
        name: path
        for name in ("data", "unlabelled")
        if (path := getattr(arguments, name)) is not None
    }
    for name, path in given.items():
        if arguments.what != "classifier":
            raise UsageError(f"--{name} belongs to 'train.py classifier'")
        if not is_text(path):
            raise UsageError(
                f"--{name} {str(path)!a}: its name must be UTF-8 text, for the run keeps it in its "
                "settings"
            )
    return config.model_copy(update={"classifier": config.classifier.model_copy(update=given)})


def _resumed(arguments: argparse.Namespace) -> tuple[Path, Config]:
    if arguments.what == "recogniser":
        raise UsageError("the recogniser trains in minutes and cannot be resumed: start it again")
    given = [
        option
        for option, value in {
            "--config": arguments.config,
            "--set": arguments.set,
            "--seed": arguments.seed,
            "--reproducible": arguments.reproducible,
            "--agent": arguments.agent,
            "--prior": arguments.prior,
            "--steps": None if arguments.what == "agent" else arguments.steps,
        }.items()
        if value is not None and value is not False and value != []
    ]
    if given:
        raise UsageError(f"--resume continues with the run's own settings: leave out {given[0]}")
    if arguments.what == "classifier":
        run, config = existing_classifier(arguments.run_dir)
        for name in ("data", "unlabelled"):
            if getattr(arguments, name) and getattr(config.classifier, name) is None:
                raise UsageError(f"{run} trains on {_WITHOUT[name]} images: leave out --{name}")
    else:
        run, config = existing_training(arguments.run_dir)
    # What was learned on a simulator must not be taken for experience with a microscope.
    if arguments.env not in (None, config.run.microscope):
        raise UsageError(
            f"{run} was a run with --env {config.run.microscope}: resume it without --env"
        )
    if arguments.steps is not None:
        config = load_config(run / TRAINING, [f"agent.steps={arguments.steps}"])
    return run, _with_data(config, arguments)


def _refuse_impossible(arguments: argparse.Namespace, config: Config) -> None:
    if arguments.dry_run and (config.run.microscope != "real" or arguments.resume):
        raise UsageError(
            "--dry-run goes with a new run and --env real: nothing else sends commands"
        )
    moved = arguments.what == "agent" and config.run.microscope == "real" and arguments.resume
    if arguments.fresh_area and not moved:
        raise UsageError("--fresh-area goes with --resume of a run with --env real")
    if arguments.log_commands is not None and arguments.what != "agent":
        raise UsageError("--log-commands belongs to training an agent: nothing else sends commands")
    refuse_without_log(arguments.log_commands, config, arguments.dry_run)
    if arguments.run_dir is not None and not is_text(arguments.run_dir):
        raise UsageError(
            f"--run-dir {str(arguments.run_dir)!a}: its name must be UTF-8 text, for TensorBoard "
            "takes no other"
        )
    if arguments.prior is not None and config.agent.kind != "belief":
        raise UsageError("--prior belongs to the belief agent: add --agent belief")
    if arguments.output and arguments.what == "agent" and config.agent.kind == "belief":
        raise UsageError(
            "--output belongs to the double DQN: what a belief agent has learned is its run "
            "directory, which 'evaluate.py --run' and 'spm-gym run --agent' take"
        )
    if arguments.dry_run and arguments.output:
        raise UsageError("--dry-run keeps nothing: leave out --output")
    refuse_unwritable("--output", arguments.output, arguments.force)
