"""Tests of what the contract cannot know: settings, what is kept, lost replies, the rehearsal."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from spm_gym_linescope.bench import Bench
from spm_gym_linescope.driver import DRIVER
from spm_gym_linescope.instrument import LinescopeInstrument
from spm_gym_linescope.protocol import read_reply

from spm_gym.config import ConfigError, EnvConfig, RealConfig, load_config
from spm_gym.errors import ConnectionLost, InstrumentError, LimitExceeded, OutcomeUnknown
from spm_gym.instrument.driver import DriverContext
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.types import Frame, Pulse

NM = 1e-9
HERE = Frame(0.0, 0.0, 10 * NM, 16)


def quiet(kept: Path | None = None) -> DriverContext:
    return DriverContext(kept, notify=lambda text: None)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("real.linescope.port=0", ["real.linescope.port", "0", "greater"]),
        ("real.linescope.prot=1", ["real.linescope.prot", "did you mean 'port'"]),
        ("real.linescope.steps=101", ["linescope.steps = 101", "limits.coarse_steps = 100"]),
        ("real.linescop.port=1", ["real.linescop", "linescope"]),
    ],
)
def test_an_impossible_setting_is_one_line_that_names_it(setting: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(None, ["real.driver=linescope", setting])
    for word in words:
        assert word in str(caught.value)


def test_the_operators_settings_come_back(
    real: RealConfig, microscope: SimulatedMicroscope, tmp_path: Path
) -> None:
    microscope.bias, kept = -0.7, tmp_path / "before.json"
    changed = real.model_copy(update={"imaging": real.imaging.model_copy(update={"bias_V": 1.5})})
    instrument = DRIVER.connect(changed, quiet(kept))
    assert (microscope.bias, kept.is_file()) == (1.5, True)
    instrument.close()
    assert (microscope.bias, kept.is_file()) == (-0.7, False)
    assert not microscope.status().approached


def test_what_a_killed_run_has_kept_is_taken_from_there(
    real: RealConfig, microscope: SimulatedMicroscope, tmp_path: Path
) -> None:
    kept = tmp_path / "before.json"
    kept.write_text('{"bias": -0.7, "setpoint": 5e-11, "speed": 1e-8}')
    DRIVER.restore(real, kept, lambda text: None)
    assert (microscope.bias, microscope.setpoint) == (-0.7, 5e-11)
    assert not microscope.status().approached
    assert not kept.exists()


def test_a_bias_that_no_tip_may_have_is_refused_before_anything_is_changed(
    real: RealConfig, microscope: SimulatedMicroscope, tmp_path: Path
) -> None:
    microscope.bias = 0.001
    with pytest.raises(LimitExceeded, match="bias"):
        DRIVER.connect(real, quiet(tmp_path / "before.json"))
    assert microscope.status().approached
    assert not (tmp_path / "before.json").exists()


def test_a_second_program_is_refused(real: RealConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    instrument = DRIVER.connect(real, quiet())
    with monkeypatch.context() as hurry:
        hurry.setattr("spm_gym_linescope.server._SEEN_OFF_S", 0.05)
        with pytest.raises(InstrumentError, match="another program"):
            DRIVER.preflight(real, EnvConfig(), None)
    instrument.close()
    findings = DRIVER.preflight(real, EnvConfig(), None).findings
    assert not any(finding.trouble for finding in findings)


def test_a_preview_is_refused_before_anything_is_sent(
    real: RealConfig, microscope: SimulatedMicroscope
) -> None:
    assert "lines lie as close as its pixels" in DRIVER.capabilities(real).missing()["previews"]
    unbroken = Breaking(Bench(microscope), "nothing")
    instrument = LinescopeInstrument(unbroken, real, quiet())
    instrument.open()
    unbroken.sent.clear()
    with pytest.raises(LimitExceeded, match="4 lines of 16 pixels are refused"):
        instrument.scan(replace(HERE, lines=4))
    assert unbroken.sent == []
    instrument.close()


class Breaking:
    """A line that breaks after its request was carried out."""

    def __init__(self, bench: Bench, request: str) -> None:
        self.sent: list[str] = []
        self._bench, self._breaks = bench, request

    def connect(self) -> None:
        pass

    def ask(self, request: str, takes: float = 0.0, act: bool = False) -> list[str]:
        self.sent.append(request)
        reply = self._bench.answer(request)
        if request.startswith(self._breaks):
            raise OutcomeUnknown("no reply") if act else ConnectionLost("no reply")
        return read_reply(reply, request)

    def close(self) -> None:
        pass


def test_an_act_whose_reply_is_lost_is_unknown_and_never_sent_again(
    real: RealConfig, microscope: SimulatedMicroscope
) -> None:
    broken = Breaking(Bench(microscope), "pulse")
    instrument = LinescopeInstrument(broken, real, quiet())
    instrument.open()
    with pytest.raises(OutcomeUnknown):
        instrument.condition(Pulse(2.5), 0.0, 0.0)
    instrument.reconnect()
    instrument.scan(HERE)
    instrument.close()
    assert [request.split(" ")[0] for request in broken.sent].count("pulse") == 1


def test_a_tip_that_cannot_be_withdrawn_is_said(
    real: RealConfig, microscope: SimulatedMicroscope
) -> None:
    instrument = LinescopeInstrument(Breaking(Bench(microscope), "withdraw"), real, quiet())
    instrument.open()
    with pytest.raises(InstrumentError, match=r"NOT IN THE SAFE CONDITION.* tip not withdrawn"):
        instrument.close()


def test_a_rehearsal_shows_what_would_be_sent(
    real: RealConfig, microscope: SimulatedMicroscope
) -> None:
    shown: list[str] = []
    instrument = DRIVER.rehearse(real, microscope, shown.append)
    instrument.condition(Pulse(2.5), 0.0, 0.0)
    instrument.close()
    assert "pulse 2.5 0.2" in shown
    assert shown[-1].startswith("get ")
