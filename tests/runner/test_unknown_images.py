"""Unknown images in a run: they start and end nothing, and too many in a row end the run."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from spm_gym.analysis.summary import summarise
from spm_gym.config import Config, ConfigError, load_config
from spm_gym.figures.scan_view import scan_view
from spm_gym.imaging.preprocessing import Preprocessing
from spm_gym.journal.reader import reading
from spm_gym.runner.states import State
from tests.support.scripted_runs import Lab, Verdicts, everything, lab, with_unknown_images

GOOD, BAD, UNKNOWN = 0.95, 0.02, math.nan
ACTS = "SELECT act FROM acts WHERE act <> 'withdraw'"


def test_an_unknown_image_neither_starts_nor_ends_a_conditioning(tmp_path: Path) -> None:
    it = with_unknown_images(tmp_path)
    assert not it.runner.run().failed
    assert it.labels() == [
        "good", "unknown", "bad probe", "unknown", "bad probe",
        "unknown", "conditioning", "unknown", "conditioning", "good",
    ]  # fmt: skip
    whole = "SELECT id FROM scans WHERE fraction = 1 ORDER BY id"
    image = [number for (number,) in it.rows(whole)]
    # No action was chosen on an unknown image, nor is one the outcome of any.
    steps = it.rows("SELECT scan, scan_after, reward, terminated, uncertain FROM steps")
    assert steps == [(image[4], image[6], -1.0, 0, 0), (image[6], image[8], 10.0, 1, 0)]
    assert it.rows("SELECT outcome, actions FROM episodes") == [("good", 2)]
    assert len(it.rows(ACTS)) == 2
    assert it.policy.taught == [(it.policy.taught[0][0], -1.0, False),
                                (it.policy.taught[1][0], 10.0, True)]  # fmt: skip
    it.journal.close()


def test_the_journal_keeps_an_unknown_image_without_a_probability(tmp_path: Path) -> None:
    it = with_unknown_images(tmp_path)
    it.runner.run()
    it.journal.close()
    with reading(tmp_path) as db:
        kept = db.execute("SELECT probability, preview_probability, clean_side > 0, episode"
                          " FROM scans WHERE label = 'unknown' ORDER BY id")  # fmt: skip
        assert [tuple(row) for row in kept] == [(None, None, 1, None)] * 2 + [
            (None, None, 1, 1)
        ] * 2
        assert db.execute("SELECT COUNT(*) FROM scans WHERE label <> 'unknown' AND fraction = 1"
                          " AND probability IS NULL").fetchone()[0] == 0  # fmt: skip


def test_an_unknown_image_leaves_the_row_of_bad_ones_as_it_is(tmp_path: Path) -> None:
    with lab(
        tmp_path, Verdicts(BAD, BAD, *[UNKNOWN] * 4, BAD), "operation.condition_after=3"
    ) as it:
        it.until(State.CONDITION)
        assert it.labels() == ["bad probe"] * 2 + ["unknown"] * 4 + ["bad probe"]
        assert it.runner.run_state.imaging.unknown == 0


def ended(it: Lab, count: int) -> None:
    outcome = it.runner.run()
    assert outcome.failed
    assert outcome.where == "tip withdrawn"
    assert not it.microscope.status().approached
    for told in (outcome.ending, it.notified[-1][1]):
        assert f"unknown images in a row: {count} (operation.unknown_after = {count})" in told
        assert "spm-gym label" in told
        assert "env.classifier" in told
    assert it.notified[-1][0] == "recovery failed"
    assert it.rows("SELECT text FROM events WHERE kind = 'failure'")[-1] == (outcome.ending,)


def test_too_many_in_a_row_withdraw_the_tip_and_say_why(tmp_path: Path) -> None:
    with lab(tmp_path, Verdicts(GOOD, *[UNKNOWN] * 4, GOOD, UNKNOWN)) as it:
        ended(it, Config().operation.unknown_after)
        assert it.labels() == ["good", *["unknown"] * 4, "good", *["unknown"] * 5]
        assert not it.rows(ACTS)
        assert "9 unknown" in it.notified[-1][1]


def test_too_many_in_a_row_end_a_run_in_the_middle_of_conditioning(tmp_path: Path) -> None:
    with lab(tmp_path, Verdicts(BAD, UNKNOWN), "operation.condition_after=1",
             "operation.unknown_after=3") as it:  # fmt: skip
        ended(it, 3)
        assert it.labels() == ["bad probe"] + ["unknown"] * 3
        assert len(it.rows(ACTS)) == 1
        assert it.rows("SELECT scan_after FROM steps") == [(None,)]
        assert it.rows("SELECT outcome FROM episodes") == [(None,)]
    # A person has put that right: what the action did shows the next image.
    with lab(tmp_path, Verdicts(GOOD), "operation.condition_after=1", "operation.scans=5") as it:
        assert it.runner.run_state.imaging.unknown == 0
        assert it.runner.run().ending == "5 images are taken"
        assert it.rows("SELECT outcome, actions FROM episodes") == [("good", 1)]


def test_a_killed_run_goes_on_counting(tmp_path: Path) -> None:
    settings = ("operation.unknown_after=4",)
    with lab(tmp_path, Verdicts(GOOD, UNKNOWN), *settings) as it:
        while it.runner.run_state.imaging.unknown < 3:
            it.runner.step()
    with lab(tmp_path, Verdicts(UNKNOWN), *settings, microscope=it.microscope) as it:
        assert it.runner.run_state.imaging.unknown == 3
        ended(it, 4)
        assert it.labels() == ["good"] + ["unknown"] * 4


def test_a_run_that_somebody_takes_up_again_counts_from_zero(tmp_path: Path) -> None:
    with lab(tmp_path, Verdicts(UNKNOWN), "operation.unknown_after=2") as it:
        ended(it, 2)
    with lab(tmp_path, Verdicts(UNKNOWN), "operation.unknown_after=2") as it:
        ended(it, 2)
        assert it.labels() == ["unknown"] * 4


WORLD = ("simulator.tip_change_rate=0.15", "simulator.contact_loss_rate=0.02",
         "simulator.rough_fraction=0.1", "operation.condition_after=2",
         "operation.scans=40")  # fmt: skip


def lively(folder: Path) -> Lab:
    made = Lab(folder, Verdicts(GOOD), *WORLD)
    microscope = made.microscope

    def classify(images: Any) -> Any:
        # By the pixels alone, so that every piece of a run answers as the whole.
        sums = abs(images).sum(axis=(1, 2, 3))
        answers = sums * 0 + microscope.truth.good
        answers[sums % 1 < 0.3] = math.nan
        return answers

    made.env.classifier = classify
    return made


def test_a_run_cut_into_pieces_is_the_run_in_one_piece(tmp_path: Path) -> None:
    whole = lively(tmp_path / "whole")
    whole.runner.run()
    whole.journal.close()
    cut: list[State] = []
    while not cut or cut[-1] is not State.STOP:
        piece = lively(tmp_path / "pieces")
        for _ in range(1 + len(cut) % 11):
            if piece.runner.state is not State.STOP:
                piece.runner.step()
        cut.append(piece.runner.state)
        if cut[-1] is State.STOP:
            piece.runner.run()
        piece.journal.close()
    one, other = everything(tmp_path / "whole"), everything(tmp_path / "pieces")
    labels = summarise(tmp_path / "whole").labels
    assert labels["unknown"] > 5
    assert one["steps"]
    for table in one:
        assert one[table] == other[table], table


@pytest.mark.parametrize("state", [State.CLASSIFY, State.COLLECT])
def test_a_classifier_that_was_changed_meanwhile_may_not_know_the_image_in_hand(
    tmp_path: Path, state: State
) -> None:
    with lab(tmp_path, Verdicts(BAD), "operation.condition_after=1") as it:
        it.until(state)
    with lab(tmp_path, Verdicts(UNKNOWN, GOOD), "operation.condition_after=1",
             "operation.scans=2", microscope=it.microscope) as it:  # fmt: skip
        it.runner.run()
        assert it.labels() == ["unknown", "good"]
        assert it.rows("SELECT probability FROM scans WHERE label = 'unknown'") == [(None,)]
        assert not it.rows(ACTS)


def test_nothing_is_done_on_an_image_that_another_classifier_does_not_know(
    tmp_path: Path,
) -> None:
    with lab(tmp_path, Verdicts(BAD), "operation.condition_after=1") as it:
        it.until(State.CONDITION)
    with lab(tmp_path, Verdicts(UNKNOWN), microscope=it.microscope) as it:
        outcome = it.runner.run()
        assert outcome.failed
        assert "on which the next action is to be decided" in outcome.ending
        assert not it.rows(ACTS)


def test_the_word_of_the_operator_is_held_against_known_images_only(tmp_path: Path) -> None:
    verdicts = Verdicts(UNKNOWN, GOOD, UNKNOWN, GOOD, BAD, GOOD)
    with lab(tmp_path, verdicts, "operation.require_good_start=true", "operation.scans=8") as it:
        assert not it.runner.run().failed
        assert it.runner.run_state.imaging.vouched is None
    again = tmp_path / "again"
    with lab(again, Verdicts(UNKNOWN), "operation.require_good_start=true") as it:
        ended(it, 5)


PREVIEWS = ("env.preview_lines=16", "operation.condition_after=1", "operation.scans=4")


def test_an_unknown_preview_is_followed_by_the_image_of_the_same_frame(tmp_path: Path) -> None:
    with lab(tmp_path, Verdicts(BAD, BAD, GOOD), *PREVIEWS, previews=Verdicts(UNKNOWN)) as it:
        assert not it.runner.run().failed
        kept = it.rows("SELECT lines, label, reason, preview_probability FROM scans"
                       " WHERE fraction = 1 ORDER BY id")  # fmt: skip
        preview = (16, "preview", "unknown", None)
        image, last = (64, "conditioning", "", None), (64, "good", "", None)
        assert kept == [(64, "bad probe", "", None), preview, image, preview, image, last]
        number = it.rows("SELECT MIN(id) FROM scans WHERE lines = 16")[0][0]
    with reading(tmp_path) as db:
        view = scan_view(db, tmp_path, None, number, Preprocessing())
        assert view is not None
        assert view.facts.unknown


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "nan", "null", "x"])
def test_the_setting_is_a_count(value: str) -> None:
    with pytest.raises(ConfigError, match=r"operation\.unknown_after"):
        load_config(None, [f"operation.unknown_after={value}"])
