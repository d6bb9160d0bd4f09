"""The driver: what spm-gym finds by the entry point ``linescope``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from spm_gym.config import EnvConfig, RealConfig
from spm_gym.errors import InstrumentError
from spm_gym.instrument.contract import Instrument
from spm_gym.instrument.driver import Capabilities, Driver, DriverContext, Finding, Inspection
from spm_gym.instrument.limits import check_bias, check_setpoint
from spm_gym_linescope.bench import Bench, RehearsedLine
from spm_gym_linescope.instrument import LinescopeInstrument, ask_status, greet
from spm_gym_linescope.line import TcpLine
from spm_gym_linescope.protocol import line, numbers
from spm_gym_linescope.settings import LinescopeConfig

NM, PA = 1e-9, 1e-12


class LinescopeDriver(Driver):
    """Drives a linescope over TCP."""

    settings = LinescopeConfig

    def capabilities(self, real: RealConfig) -> Capabilities:
        """Say what a linescope can do."""
        return Capabilities(
            status=True,
            withdraw=True,
            retract=True,
            coarse_motion=True,
            abort=True,
            restore=True,
            rehearse=True,
            reasons={
                "previews": "a linescope's lines lie as close as its pixels",
                "lend": "a linescope stays with the program that it began with",
                "verify_motor": "a linescope makes no single steps",
            },
        )

    def connect(self, real: RealConfig, context: DriverContext) -> Instrument:
        """Connect, and set bias, setpoint and speed of imaging."""
        return _opened(LinescopeInstrument(_line_to(real), real, context))

    def preflight(self, real: RealConfig, env: EnvConfig, kept: Path | None) -> Inspection:
        """Look at the linescope; changes nothing."""
        own, imaging, limits = real.section(LinescopeConfig), real.imaging, real.limits
        to_it = _line_to(real)
        try:
            simulated = greet(to_it)
            status = ask_status(to_it)
            side_nm = numbers(to_it.ask(line("get", "area")), 1)[0] / NM
        finally:
            to_it.close()
        bias = status.bias if imaging.bias_V is None else imaging.bias_V
        setpoint = status.setpoint if imaging.setpoint_pA is None else imaging.setpoint_pA * PA
        then = "a run would approach" if real.approach_at_start else "approach before a run"
        tip = "at the surface" if status.approached else f"withdrawn: {then}"
        area_nm = env.regions.area_nm
        findings = [
            Finding("connection", f"a linescope at {own.host} port {own.port} answers"),
            Finding("tip", tip, trouble=not (status.approached or real.approach_at_start)),
            Finding("area", f"{side_nm:g} nm; used are {area_nm:g} nm", trouble=area_nm > side_nm),
        ]
        text = f"bias {bias:g} V, setpoint {setpoint / PA:g} pA"
        try:
            check_bias(bias, limits)
            check_setpoint(setpoint, limits)
            findings.append(Finding("imaging", text))
        except InstrumentError as error:
            findings.append(Finding("imaging", str(error), trouble=True))
        return Inspection(findings, bias, setpoint, simulated)

    def rehearse(
        self, real: RealConfig, simulated: Instrument, show: Callable[[str], None]
    ) -> Instrument:
        """Show every line; a bench over the simulated microscope answers."""
        silent = DriverContext(notify=lambda text: None, note=lambda text: None)
        return _opened(LinescopeInstrument(RehearsedLine(Bench(simulated), show), real, silent))

    def restore(self, real: RealConfig, kept: Path, notify: Callable[[str], None]) -> None:
        """Withdraw, and put back what a run that was killed has kept."""
        instrument = LinescopeInstrument(_line_to(real), real, DriverContext(kept, notify))
        try:
            instrument.open_to_restore()
        finally:
            instrument.close()


def _line_to(real: RealConfig) -> TcpLine:
    own = real.section(LinescopeConfig)
    return TcpLine(own.host, own.port, own.timeout_s)


def _opened(instrument: LinescopeInstrument) -> LinescopeInstrument:
    try:
        instrument.open()
    except BaseException:
        instrument.close()
        raise
    return instrument


DRIVER = LinescopeDriver()
