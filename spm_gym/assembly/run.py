"""One session of autonomous operation: everything is put together, run, and let go of."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np

from agents.belief.agent import BeliefAgent
from agents.run_policies import BeliefPolicy, DoubleDQNPolicy, InterleavedPolicy, RandomRunPolicy
from spm_gym.assembly.agent import LoadedAgent, load_agent
from spm_gym.assembly.classifier import build_classifier, no_classifier
from spm_gym.assembly.drivers import allowed_acts, capabilities, kept_window
from spm_gym.assembly.microscope import microscope, print_line
from spm_gym.assembly.preflight import check_interlocks, check_when_good
from spm_gym.assembly.previews import build_preview_classifier
from spm_gym.assembly.process import prepare_process
from spm_gym.assembly.recording import session_record
from spm_gym.assembly.run_directory import CHECKPOINTS
from spm_gym.assembly.run_progress import RunProgress
from spm_gym.assembly.sample import find_used_area
from spm_gym.assembly.simulator import build_microscope, world_seed
from spm_gym.assembly.tensorboard import RunTensorBoard
from spm_gym.config import Config, OperationConfig
from spm_gym.envs.budget import Budget
from spm_gym.envs.observation import process_scan
from spm_gym.envs.probe_conditioning import ProbeConditioningEnv
from spm_gym.errors import InstrumentError
from spm_gym.instrument.contract import Instrument, Restartable
from spm_gym.instrument.driver import SignalReader
from spm_gym.instrument.faults import FaultyMicroscope
from spm_gym.instrument.guard import Guard
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.journal.writer import Journal
from spm_gym.paths import as_typed, display_name
from spm_gym.runner.clock import steady_clock
from spm_gym.runner.context import RunnerHooks
from spm_gym.runner.control import Control
from spm_gym.runner.interlocks import Interlocks
from spm_gym.runner.notify import Notifier
from spm_gym.runner.policy import RunPolicy
from spm_gym.runner.quiet_hours import QuietHours
from spm_gym.runner.requests import Requests
from spm_gym.runner.run_state import RunState
from spm_gym.runner.runner import Outcome, Runner
from spm_gym.types import Classifier, Transition

_ASK_EVERY_S = 0.2


class Lab(NamedTuple):
    """Microscope, classifier and clock of a run.

    Attributes:
        instrument: The microscope, with a record of its acts.
        simulated: The same, if it exists in software only.
        classifier: Of its images; in a survey, one that refuses to be asked.
        clock: The instrument's clock, s.
        requests: What the run is asked for.
        leaves_tip: Set once the tip is to stay at the surface when the instrument is let go of.
    """

    instrument: Instrument
    simulated: Restartable | None
    classifier: Classifier
    clock: Callable[[], float]
    requests: Requests
    leaves_tip: threading.Event


def operate(
    config: Config,
    run: Path,
    scale: float,
    resumed: bool = False,
    fresh_area: bool = False,
    token: str | None = None,
) -> int:
    """Operate the microscope until the end.

    Args:
        config: Settings of the run.
        run: Its directory.
        scale: How much faster than real time a simulated microscope works; 0: as fast as it goes.
        resumed: Whether the run goes on.
        fresh_area: Whether the microscope has been moved to a fresh approach area by hand.
        token: Who asks for a pause or a stop must know it; None: anybody who may write into the
            directory.

    Returns:
        Exit status: 0 done, 2 given up or, if that was the aim, not good, 130 interrupted.
    """
    prepare_process(config.run.threads)
    settings = config.operation
    check_when_good(config)
    check_interlocks(config)
    notifier = Notifier(settings.notify, settings.notify_every_s, display_name(run), print_line)
    try:
        with (
            # The journal is closed last, since withdrawing is an act. Only a real microscope is
            # worth the time of synchronising: what a power cut takes from a simulated one can be
            # done again.
            Journal(run, RunState.references, _is_real(config)) as journal,
            _lab(config, run, journal, token) as lab,
        ):
            env, policy = prepare(config, run, journal, lab, resumed)
            hooks = RunnerHooks(
                clock=lab.clock,
                notify=lambda kind, text: notifier.send(kind, str(kind), text),
                requests=lab.requests.asked,
                why_paused=lab.requests.why_paused,
                failure=lab.requests.failure,
                pace=_pacer(scale, lab.requests),
            )
            outcome = _run(config, run, journal, lab, env, policy, hooks, fresh_area)
            if outcome.good:
                lab.leaves_tip.set()
    finally:
        # After the shutdown: a mail server may take its time, the tip may not wait for it.
        notifier.close()
    return _status(outcome, run, settings)


def _is_real(config: Config) -> bool:
    return config.run.microscope == "real"


def _may_stay(config: Config) -> bool:
    # Who asks for a good tip at the surface is not to find one there that is not.
    withdraws = config.real.withdraw_on_exit or config.operation.when_good == "stop"
    return _is_real(config) and not withdraws


def _can_withdraw(config: Config) -> bool:
    return not _is_real(config) or capabilities(config.real).withdraw


def prepare(
    config: Config, run: Path, journal: Journal, lab: Lab, resumed: bool
) -> tuple[ProbeConditioningEnv, RunPolicy]:
    """Build environment and policy, as they were left if the run goes on; note the session.

    Args:
        config: Settings of the run.
        run: Its directory.
        journal: Its journal.
        lab: Microscope and classifier.
        resumed: Whether it goes on.
    """
    # Nobody can set the one clock; on the other a simulated night is as long as a real one.
    budget = Budget(config.budget, time.monotonic if _is_real(config) else lab.clock)
    survey = not config.operation.conditioning
    # Previews are taken in conditioning only.
    previews = no_classifier if survey else build_preview_classifier(config, lab.classifier)
    env = ProbeConditioningEnv(
        lab.instrument, lab.classifier, config.env, budget=budget, preview_classifier=previews
    )
    policy, learned, weights = _policy(config, run, env)
    journal.begin_session(session_record(config, weights, resumed), os.getpid())
    # A checkpoint is older than the journal, unless the run ended by itself.
    if config.operation.learn:
        _learn_again(journal, policy, learned, env)
    return env, policy


def _run(
    config: Config,
    run: Path,
    journal: Journal,
    lab: Lab,
    env: ProbeConditioningEnv,
    policy: RunPolicy,
    hooks: RunnerHooks,
    fresh_area: bool,
) -> Outcome:
    """Operate until the end, followed by progress bar and TensorBoard."""
    with RunTensorBoard(run, config) as board:
        with RunProgress(config) as progress:

            def watch(run_state: RunState) -> None:
                progress.show(run_state)
                board.show()

            runner = Runner(
                env,
                config.operation,
                journal,
                policy,
                replace(hooks, watch=watch),
                simulated=lab.simulated,
                seed=config.seed,
                may_stay=_may_stay(config),
                can_withdraw=_can_withdraw(config),
                used_area=find_used_area(config, run),
                z_window=kept_window(config.real) if _is_real(config) else None,
            )
            if fresh_area:
                runner.handlers.areas.enter_unknown()
            outcome = runner.run()
        print_line(f"{outcome.ending}: {runner.summary()}")
        board.completed = outcome.safe and not (outcome.failed or outcome.interrupted)
    return outcome


def _status(outcome: Outcome, run: Path, settings: OperationConfig) -> int:
    """Print what can be done next, and return the exit status.

    Raises:
        InstrumentError: The tip is not where it is to be.
    """
    if not outcome.safe:
        raise InstrumentError(
            f"THE TIP IS NOT WITHDRAWN, look at the instrument: {outcome.trouble}"
        )
    print_line(f"  what happened   spm-gym report {as_typed(run)}")
    if not settings.conditioning:
        print_line(f"  label them      spm-gym label {as_typed(run)}")
    print_line(f"  go on           spm-gym run --resume --run-dir {as_typed(run)}")
    # What a shell gives for Ctrl-C, so that scripts can tell it from a run that gave up.
    if outcome.interrupted:
        return 130
    # So that a script does not measure with a tip that is not good.
    not_yet_good = settings.when_good == "stop" and not outcome.good
    if not_yet_good and not outcome.failed:
        print_line(f"THE PROBE IS NOT GOOD: no image has shown a good one; {outcome.where}")
    return 2 if outcome.failed or not_yet_good else 0


@contextmanager
def _lab(config: Config, run: Path, journal: Journal, token: str | None) -> Iterator[Lab]:
    # Before the microscope: a request is obeyed from its first command on.
    # An event, for the driver asks when it is closed, after the runner has ended.
    interlocks, leaves_tip = Interlocks(config.operation.interlocks), threading.Event()
    quiet = QuietHours(config.operation.quiet_hours, config.operation.time_zone)
    requests = Requests(Control(run, token), interlocks, quiet)
    if config.run.microscope == "real":
        with microscope(
            config,
            run,
            "run",
            journal=journal,
            abort=requests.must_interrupt,
            leave_tip=leaves_tip.is_set,
        ) as instrument:
            _refuse_withdrawn(config, instrument)
            _begin_interlocks(config, interlocks, instrument)
            yield Lab(instrument, None, _classifier(config), steady_clock(), requests, leaves_tip)
        return
    bare = build_microscope(config, world_seed(config.seed))
    simulated: SimulatedMicroscope | FaultyMicroscope = bare
    if config.faults is not None:
        simulated = FaultyMicroscope(bare, config.faults, config.seed)
    # Without limits, for nothing can break; but with the same record of acts as a real microscope.
    guarded = Guard(
        simulated,
        None,
        journal.record_act,
        journal.acts(),
        allowed=allowed_acts(config),
    )
    classifier = _classifier(config, bare)
    # The clock of the microscope without its faults: it answers while the connection is broken.
    yield Lab(guarded, simulated, classifier, lambda: bare.status().time, requests, leaves_tip)


def _begin_interlocks(config: Config, interlocks: Interlocks, instrument: Instrument) -> None:
    names = [each.signal for each in config.operation.interlocks]
    if names:
        assert isinstance(instrument, Guard)
        reader = cast(SignalReader, instrument.instrument)
        interlocks.begin(lambda: reader.read_signals(names))


def _classifier(config: Config, microscope: Instrument | None = None) -> Classifier:
    return build_classifier(config, microscope) if config.operation.conditioning else no_classifier


def _refuse_withdrawn(config: Config, instrument: Instrument) -> None:
    real = config.real
    by_hand = capabilities(real).status and not real.approach_at_start
    if by_hand and not instrument.status().approached:
        raise InstrumentError(
            "the tip is withdrawn, and real.approach_at_start is false: approach by hand first"
        )


def _policy(
    config: Config, run: Path, env: ProbeConditioningEnv
) -> tuple[RunPolicy, int, Path | None]:
    """Build the policy; also the last decision it has learned from, and the file of its weights."""
    settings = config.operation
    random = RandomRunPolicy(np.random.default_rng(_own_stream(config.seed)))
    # In a survey nobody chooses anything, and a lab may have no agent for its sample.
    if settings.policy == "random" or not settings.conditioning:
        return random, 0, None
    loaded = load_agent(config, env, run)
    agent = _agent_policy(loaded, run / CHECKPOINTS, settings.learn)
    # A run that is killed before it has learned anything goes on with the same agent.
    if loaded.learned is None:
        # So that a resumed run goes on with this agent, even if the file it came from has changed.
        agent.save(0)
    policy = agent if settings.policy == "agent" else InterleavedPolicy(agent, random, config.seed)
    return policy, loaded.learned or 0, loaded.file


def _agent_policy(
    loaded: LoadedAgent, checkpoints: Path, learns: bool
) -> DoubleDQNPolicy | BeliefPolicy:
    if isinstance(loaded.model, BeliefAgent):
        return BeliefPolicy(loaded.model, checkpoints, learns, loaded.episode)
    return DoubleDQNPolicy(loaded.model, checkpoints, learns)


def _own_stream(seed: int) -> np.random.SeedSequence:
    """Give a stream beside the regions', which is the seed's own, and the agent's first two."""
    return np.random.SeedSequence(seed).spawn(3)[2]


def _learn_again(
    journal: Journal, policy: RunPolicy, learned: int, env: ProbeConditioningEnv
) -> None:
    """Learn what was learned after the last checkpoint, from the journal and its scans."""
    for step in journal.learned_steps(learned):
        scans = [journal.scan(step[name]) for name in ("scan", "scan_after")]
        before, after = (process_scan(scan, env.classifier_of(scan), env.config) for scan in scans)
        policy.learn(
            Transition(
                before.observation,
                step["action"],
                step["reward"],
                after.observation,
                after.mask,
                bool(step["terminated"]),
                bool(step["truncated"]),
                bool(step["uncertain"]),
            ),
            step["episode"],
        )


def _pacer(scale: float, requests: Requests) -> Callable[[float], None]:
    """Make a function that lets time pass as on an instrument, unless something is asked for."""

    def pace(seconds: float) -> None:
        end = time.monotonic() + seconds / scale
        while (left := end - time.monotonic()) > 0 and not requests.must_interrupt():
            time.sleep(min(left, _ASK_EVERY_S))

    return pace if scale else lambda seconds: None
