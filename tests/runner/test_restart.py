"""A run that was interrupted or killed goes on as if it had not been."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from spm_gym.assembly.simulator import build_microscope
from spm_gym.config import load_config
from spm_gym.runner.states import State
from tests.support.mishaps import Mishap
from tests.support.scripted_runs import Lab, Verdicts, everything, lab

GOOD, BAD = 0.95, 0.02


WORLD = ("env.ground_truth=true", "simulator.tip_change_rate=0.15",
         "simulator.contact_loss_rate=0.02", "simulator.crash_rate=0.02",
         "simulator.rough_fraction=0.1", "env.regions.area_nm=100",
         "operation.condition_after=2", "operation.scans=60")  # fmt: skip


def lively(folder: Path) -> Lab:
    made = Lab(folder, Verdicts(GOOD), *WORLD, microscope=build_microscope(
        load_config(None, list(WORLD)), 11))  # fmt: skip
    microscope = made.microscope
    made.env.classifier = lambda images: np.full(len(images), microscope.truth.good, np.float32)
    return made


def test_a_run_cut_into_pieces_is_the_run_in_one_piece(tmp_path: Path) -> None:
    whole = lively(tmp_path / "whole")
    whole.runner.run()
    whole.journal.close()
    rng = np.random.default_rng(0)
    ended = False
    while not ended:
        piece = lively(tmp_path / "pieces")
        for _ in range(int(rng.integers(1, 40))):
            if piece.runner.state is State.STOP or piece.runner.step() is State.STOP:
                ended = True
                piece.runner.run()
                break
        piece.journal.close()
    one, other = everything(tmp_path / "whole"), everything(tmp_path / "pieces")
    assert len(one["steps"]) > 5
    assert len(one["recoveries"]) > 1
    for table in one:
        assert one[table] == other[table], table


def interrupted_in_compiled_code() -> SystemError:
    """Make what Ctrl-C becomes while a compiled function is being entered."""
    error = SystemError("a function returned a result with an exception set")
    error.__cause__ = KeyboardInterrupt()
    return error


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt(), interrupted_in_compiled_code()])
def test_an_interrupt_in_a_scan_withdraws_and_loses_nothing(
    tmp_path: Path, interrupt: BaseException
) -> None:
    microscope = Mishap(scan={4: interrupt})
    with lab(tmp_path, Verdicts(GOOD), "operation.scans=3", microscope=microscope) as it:
        outcome = it.runner.run()
        assert outcome.ending == "interrupted"
        assert outcome.safe
        assert not it.microscope.status().approached
    with lab(tmp_path, Verdicts(GOOD), "operation.scans=3", microscope=Mishap()) as it:
        assert it.runner.state is State.IMAGE
        it.runner.run()
    with lab(tmp_path.with_name("other"), Verdicts(GOOD), "operation.scans=3",
             microscope=Mishap()) as it:  # fmt: skip
        it.runner.run()
    interrupted, straight = everything(tmp_path), everything(tmp_path.with_name("other"))
    assert interrupted["scans"] == straight["scans"]
    assert interrupted["files"] == straight["files"]


def test_an_interrupt_in_an_act_leaves_it_unknown_and_its_step_knows_it(tmp_path: Path) -> None:
    settings = ("operation.condition_after=1", "operation.scans=6")
    microscope = Mishap(condition={2: KeyboardInterrupt()})
    with lab(tmp_path, Verdicts(BAD), *settings, microscope=microscope) as it:
        assert it.runner.run().ending == "interrupted"
    with lab(tmp_path, Verdicts(BAD), *settings, microscope=Mishap()) as it:
        it.runner.run()
        acts = it.rows("SELECT number, act, result FROM acts")
        assert [result for _, act, result in acts if act != "withdraw"].count("unknown") == 1
        steps = it.rows("SELECT act, uncertain FROM steps ORDER BY id")
        assert [number for number, act, _ in acts if act != "withdraw"] == [a for a, _ in steps]
        assert [uncertain for _, uncertain in steps].count(1) == 1


@pytest.mark.parametrize(
    ("state", "goes_on"),
    [(State.CONDITION, State.CHOOSE), (State.CHANGE_AREA, State.APPROACH),
     (State.CLEAN, State.APPROACH), (State.APPROACH, State.APPROACH)],
)  # fmt: skip
def test_an_act_that_a_kill_has_cut_off_is_unknown_and_not_repeated(
    tmp_path: Path, state: State, goes_on: State
) -> None:
    settings = ("operation.condition_after=1", "env.regions.area_nm=20", "operation.scans=40")
    accident = {"scan": {2: "crash"}} if state in (State.CLEAN, State.APPROACH) else {}
    classifier = Verdicts(BAD if state is State.CONDITION else GOOD)
    with lab(tmp_path, classifier, *settings, microscope=Mishap(**accident)) as it:
        it.until(state)
        intents = len(it.rows("SELECT * FROM acts"))
        it.journal.commit = lambda *state: it.journal.rollback()  # type: ignore[method-assign]
        it.runner.step()  # its intent is there, its result is not
    with lab(tmp_path, classifier, *settings, microscope=Mishap()) as it:
        assert it.runner.state is goes_on
        act, result = it.rows("SELECT act, result FROM acts ORDER BY id DESC LIMIT 1")[0]
        assert (result, len(it.rows("SELECT * FROM acts"))) == ("unknown", intents + 1)
        assert act in ("dip", "pulse", "stall", "move area", "approach")
        if state is State.CONDITION:
            it.until(State.CLASSIFY)
            it.runner.step()
            assert it.rows("SELECT uncertain, scan_after IS NULL FROM steps")[0] == (1, 0)
            assert not it.policy.taught
        if state is State.CHANGE_AREA:
            assert it.rows("SELECT certain FROM areas") == [(1,), (0,)]
        if state is State.CLEAN:
            assert it.runner.run_state.place.clean_at is None


def test_the_map_survives_and_equals_that_of_the_journal(tmp_path: Path) -> None:
    first = lively(tmp_path)
    for _ in range(200):
        first.runner.step()
    free = first.env.navigator.regions.free.copy()
    first.journal.close()
    again = lively(tmp_path)
    assert np.array_equal(again.env.navigator.regions.free, free)
    assert again.env.navigator.regions.marks == again.journal.marks(
        again.runner.run_state.place.area
    )
    again.journal.close()


def test_an_image_in_hand_is_read_again_after_a_restart(tmp_path: Path) -> None:
    with lab(tmp_path / "cut", Verdicts(GOOD), "operation.scans=3") as it:
        it.until(State.CLASSIFY)
    for folder in ("cut", "whole"):
        with lab(tmp_path / folder, Verdicts(GOOD), "operation.scans=3") as it:
            it.runner.run()
    assert everything(tmp_path / "cut") == everything(tmp_path / "whole")
