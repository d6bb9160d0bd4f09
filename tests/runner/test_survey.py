"""A survey takes images and does nothing to the probe: counted at the controller."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from spm_gym.assembly.classifier import no_classifier
from spm_gym.assembly.drivers import connect_microscope
from spm_gym.assembly.simulator import build_microscope, world_seed
from spm_gym.cli import main
from spm_gym.config import load_config
from spm_gym.datasets.export import export_images
from spm_gym.datasets.labelled_folder import load_folder
from spm_gym.errors import LimitExceeded
from spm_gym.journal.reader import reading
from spm_gym.runner.states import State
from spm_gym.servers.nanonis.controller import VirtualController
from spm_gym.servers.nanonis.server import VirtualNanonis
from spm_gym.types import Dip, Pulse, Stall
from spm_gym.web.labelling.candidates import find_candidates
from spm_gym.web.labelling.labels import Labels
from spm_gym.web.report import render_report
from tests.support.command_runs import summary
from tests.support.scripted_runs import everything, lab
from tests.support.virtual import silent
from tests.support.watching import watched

pytestmark = pytest.mark.usefixtures("fresh_folder")

ROUGH_WORLD = ["simulator.tip_change_rate=0.3", "simulator.crash_rate=0.1",
               "simulator.contact_loss_rate=0.05", "simulator.rough_fraction=0.1"]  # fmt: skip
SURVEY = ("operation.conditioning=false", "operation.scans=8", "env.regions.area_nm=24")
CONDITIONING = {"Bias.Set", "Bias.Pulse", "TipShaper.Start", "BiasSpectr.Start", "ZSpectr.Start",
                "ZCtrl.ZPosSet", "ZCtrl.SetpntSet"}  # fmt: skip
"""Commands that pulse, dip, or change bias or setpoint."""


class CountingController(VirtualController):
    """Counts the commands that it gets."""

    counts: Counter[str]

    def execute(self, name: str, values: Mapping[str, Any], *more: Any) -> dict[str, Any]:
        self.counts[name] += 1
        return super().execute(name, values, *more)


@pytest.fixture
def controller() -> Iterator[tuple[CountingController, list[str]]]:
    """A controller that counts, with much going wrong; and the options that reach it."""
    config = load_config(None, ROUGH_WORLD)
    controller = CountingController(build_microscope(config, world_seed(4)), time_scale=0)
    controller.counts = Counter()
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    with VirtualNanonis(controller, [0, 0]) as server:
        settings = [
            f"real.nanonis.ports={list(server.ports)}",
            "real.nanonis.coarse.retract=z+",
            "env.creep_wait_s=0",
            "env.regions.area_nm=40",
            "operation.confirm_s=0",
            "operation.max_recoveries=50",
        ]
        yield controller, settings
    controller.session.discard_if_empty()
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_survey_on_a_nanonis_never_conditions_and_is_labelled_afterwards(
    controller: tuple[CountingController, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    counting, settings = controller
    options = ["--env", "real", "--run-dir", "run", "--no-conditioning", "--scans", "40"]
    # A lab that has no classifier and no agent for its sample.
    missing = ["env.classifier=gone.safetensors", "operation.agent=gone"]
    assert main(["run", *options, "--set", *settings, *missing]) == 0
    out = capsys.readouterr().out
    assert "a survey of 40 images, nothing conditioned" in out
    assert "spm-gym label run" in out
    found = summary(capsys)
    assert found["consistent"], found["inconsistencies"]
    assert found["recoveries"]["by_trouble"]["crash"] > 0
    assert found["areas"] > 1
    assert set(found["acts"]) <= {"approach", "withdraw", "retract", "move area"}
    assert counting.counts.keys() & CONDITIONING == set()
    assert counting.counts["Scan.Action"] > 80
    assert "A survey: images only" in render_report(Path("run")).html
    label_and_export(Path("run"))


def label_and_export(run: Path) -> None:
    with reading(run) as db:
        taken = db.execute("SELECT file FROM scans WHERE label = 'unclassified'").fetchall()
    candidates = find_candidates(run)
    assert [each.file for each in candidates] == [file for (file,) in taken]
    assert len(candidates) > 20
    with Labels(run, candidates) as labels:
        for number, candidate in enumerate(candidates):
            labels.set_label(candidate.file, "Anna", "bad" if number % 3 else "good")
    export_images(run, Path("set"), load_config(run / "config.yaml").env)
    assert load_folder(Path("set")).good.size == len(candidates)


@pytest.mark.parametrize("action", [Pulse(4.0), Dip(1e-9), Stall()])
def test_the_guard_of_a_survey_refuses_every_act(
    controller: tuple[CountingController, list[str]], action: Pulse | Dip | Stall
) -> None:
    counting, settings = controller
    recorded: list[dict[str, Any]] = []
    config = load_config(None, [*settings, "operation.conditioning=false"])
    with closing(connect_microscope(config, silent(), recorded.append)) as guard:
        with pytest.raises(LimitExceeded, match=r"operation\.conditioning = false"):
            guard.condition(action, 0.0, 0.0)
        assert recorded == []
    assert counting.counts.keys() & CONDITIONING == set()


def test_check_says_what_a_survey_is_and_training_is_refused(
    controller: tuple[CountingController, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    _, settings = controller
    survey = [*settings, "operation.conditioning=false", "env.classifier=gone.safetensors"]
    assert main(["check", "--set", *survey]) == 0
    out = capsys.readouterr().out
    assert "a run would: " in out
    assert out.count("survey: images only, no pulse and no dip") == 2
    assert "choose from" not in out
    assert main(["check", "--for", "train", "--set", *survey]) == 2
    assert "allows no pulse and no dip, and 'train' needs them" in capsys.readouterr().out


def test_a_crashed_tip_is_taken_away_and_not_cleaned(capsys: pytest.CaptureFixture[str]) -> None:
    Path("crash.yaml").write_text(
        "{lost_contact: 0, crash: 0, connection: 0, missing_lines: 0, rough_region: 0,"
        " schedule: [{scan: 4, fault: crash}]}"
    )
    options = ["--no-conditioning", "--scans", "4", "--faults", "crash.yaml", "--run-dir", "run"]
    assert main(["run", *options]) == 0
    found = summary(capsys)
    assert found["recoveries"]["by_trouble"] == {"crash": 1}
    assert found["acts"].keys() == {"approach", "retract", "withdraw"}
    with watched(Path("run")) as address, urlopen(address) as page:
        text = page.read().decode()
    assert "A survey: images only, no pulse and no dip" in text
    assert "<dt>Conditionings</dt>" not in text


@pytest.mark.parametrize("state", [State.PARTIAL, State.IMAGE, State.DIAGNOSE, State.CHANGE_AREA])
def test_a_survey_that_was_killed_goes_on_bit_for_bit(tmp_path: Path, state: State) -> None:
    with lab(tmp_path / "whole", no_classifier, *SURVEY) as it:
        it.runner.run()
        assert it.labels() == ["unclassified"] * 8
    with lab(tmp_path / "killed", no_classifier, *SURVEY) as it:
        it.until(State.DIAGNOSE)
        it.until(state)
    with lab(tmp_path / "killed", no_classifier, *SURVEY) as it:
        it.runner.run()
    assert everything(tmp_path / "killed") == everything(tmp_path / "whole")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--resume", "--run-dir", "run", "--no-conditioning"], "leave out --no-conditioning"),
        (["--resume", "--run-dir", "run"], "operation.conditioning = true"),
        (["--no-conditioning", "--policy", "random"], "leave them out"),
        (["--no-conditioning", "--agent", "mine"], "leave them out"),
        (["--no-conditioning", "--set", "operation.require_good_start=true"], "a survey"),
    ],
)
def test_what_a_survey_refuses(
    capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert main(["run", "--no-conditioning", "--scans", "1", "--run-dir", "run"]) == 0
    settings = Path("run/config.yaml")
    # Somebody changes their mind: the run has promised not to.
    settings.write_text(settings.read_text().replace("conditioning: false", "conditioning: true"))
    assert main(["run", *arguments]) == 2
    assert words in capsys.readouterr().err
