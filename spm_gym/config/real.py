"""Settings of the real microscope: what holds for any, and what one driver alone needs."""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

from pydantic import Field, model_validator

from spm_gym.config.sections import Count, Fraction, NonNegative, Positive, Section

Seconds = Annotated[float, Field(gt=0, le=86_400)]
Pause = Annotated[float, Field(ge=0, le=86_400)]
Port = Annotated[int, Field(ge=1, le=65535)]


class ImagingConfig(Section):
    """How the microscope scans.

    Attributes:
        bias_V: Sample bias while imaging; None keeps what the operator has set.
        setpoint_pA: Current setpoint while imaging; None keeps what the operator has set.
        speed_nm_per_s: Of the tip, forward and backward.
    """

    bias_V: float | None = None
    setpoint_pA: Positive | None = None
    speed_nm_per_s: Annotated[float, Field(ge=0.01, le=1e6)] = 80.0


class LimitsConfig(Section):
    """Limits that are never exceeded at an instrument; what would is refused, nothing is sent.

    Attributes:
        bias_V: Smallest and largest magnitude of the bias, of pulses and dips too.
        setpoint_pA: Largest setpoint.
        min_setpoint_pA: Smallest setpoint.
        speed_nm_per_s: Fastest scan.
        dip_nm: Largest depth of a dip, or lift.
        width_s: Shortest and longest pulse or dip.
        position_nm: Largest distance from the centre along either axis; an image must lie within
            it as a whole.
        image_nm: Smallest and largest image.
        pixels: Fewest and most pixels of a line, and lines of an image.
        coarse_steps: Most steps of one coarse move.
        actions_per_area: Most pulses and dips in one approach area.
        actions_per_hour: Most pulses and dips in any hour; None sets no bound. A microscope does
            about 180.
        areas_per_day: Most changes of the approach area in any 24 hours; None sets no bound.
    """

    # The bounds of the released code for bias, time, image and dip. Near 0 V the feedback would
    # drive the tip into the sample, so the magnitude has a lower bound, too.
    bias_V: tuple[NonNegative, Positive] = (0.019, 8.2)
    setpoint_pA: Positive = 1000.0
    min_setpoint_pA: Positive = 1.0
    speed_nm_per_s: Positive = 2000.0
    dip_nm: Positive = 30.0
    width_s: tuple[NonNegative, Positive] = (0.02, 5.0)
    position_nm: Positive = 430.0
    image_nm: tuple[NonNegative, Positive] = (1.0, 200.0)
    pixels: tuple[Count, Count] = (8, 1024)
    coarse_steps: Count = 100
    actions_per_area: Count = 1000
    actions_per_hour: Count | None = 400
    areas_per_day: Count | None = 12

    @model_validator(mode="after")
    def _ordered(self) -> LimitsConfig:
        for name in ("bias_V", "width_s", "image_nm", "pixels"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} must be [smallest, largest], not [{low}, {high}]")
        if self.min_setpoint_pA > self.setpoint_pA:
            raise ValueError(
                f"min_setpoint_pA = {self.min_setpoint_pA:g} is more than setpoint_pA = "
                f"{self.setpoint_pA:g}"
            )
        return self

    def check_setpoint(self, name: str, setpoint_pA: float) -> None:
        """Refuse a setpoint of the settings that the limits do not allow.

        Raises:
            ValueError: Names the setting, its value and the limits.
        """
        if not self.min_setpoint_pA <= setpoint_pA <= self.setpoint_pA:
            raise ValueError(
                f"{name} = {setpoint_pA:g} lies outside limits.min_setpoint_pA = "
                f"{self.min_setpoint_pA:g} and limits.setpoint_pA = {self.setpoint_pA:g}"
            )


class DriverSettings(Section):
    """Settings of one driver, below ``real.<name of the driver>``; every driver has a subclass."""

    def check(self, imaging: ImagingConfig, limits: LimitsConfig) -> None:
        """Refuse what contradicts the settings that all drivers share.

        Raises:
            ValueError: Names the key below ``real``, its value and what is allowed.
        """


class ShapingConfig(Section):
    """Times of a dip that an action's depth, bias and width leave open (module Tip Shaper).

    Attributes:
        switch_off_delay_s: The height that a dip counts from is averaged over this time.
        settle_s: Pause at the lowest point.
        end_wait_s: Pause before the feedback takes over.
        safe_tip_nA: Current above which the controller withdraws the tip by itself (module Safe
            Tip), except during pulses and dips; None leaves the module as the operator has set it.
    """

    switch_off_delay_s: Pause = 0.05
    settle_s: Pause = 0.05
    end_wait_s: Pause = 0.05
    safe_tip_nA: Positive | None = None


class CoarseConfig(Section):
    """The coarse motor, for changes of the approach area.

    Attributes:
        retract: Which direction of the z motor takes the tip away from the sample: a matter of how
            the microscope was wired. None forbids coarse moves.
        retract_steps: Steps away from the sample before a move sideways.
        sideways_steps: Steps sideways.
        group: Motor group, counted from 1.
    """

    retract: Literal["z+", "z-"] | None = None
    retract_steps: Count = 20
    sideways_steps: Count = 10
    group: Annotated[int, Field(ge=1, le=6)] = 1


class NanonisConfig(DriverSettings):
    """A Nanonis controller over TCP.

    Attributes:
        host: Of the controller.
        ports: Of its programming interface; the first carries the run, the second is for stopping
            and looking while the first one waits.
        release: Of the controller's software; None asks it, which releases before R11798 do not
            answer.
        timeout_s: Longest time for the reply to a command, beyond the time that the command itself
            takes.
        outage_s: How long a lost connection is tried again, on the shutdown too.
        approach_timeout_s: Longest automatic approach, false landings and all.
        approach_setpoint_pA: Current setpoint during an automatic approach: above what the coarse
            motor couples into the preamplifier, or every step looks like a landing. None keeps
            that of imaging.
        withdraw_timeout_s: Longest withdrawal.
        channel: Name of the signal that holds the tip height.
        record: Names of further signals whose images are kept with every whole image.
        record_backward: Whether the images of the way back are kept as well.
        autosave: Whether the controller saves every finished scan as a .sxm file of its own.
    """

    host: str = "127.0.0.1"
    # A controller serves one client on each port, so the second connection needs a port of its own.
    ports: Annotated[tuple[Port, ...], Field(min_length=2, max_length=4)] = (6501, 6502, 6503, 6504)
    release: Annotated[int, Field(ge=10000)] | None = None
    timeout_s: Seconds = 10.0
    outage_s: Pause = 30.0
    approach_timeout_s: Seconds = 600.0
    approach_setpoint_pA: Positive | None = None
    withdraw_timeout_s: Seconds = 60.0
    channel: str = "Z (m)"
    record: tuple[str, ...] = ()
    record_backward: bool = False
    autosave: bool = False
    shaping: ShapingConfig = ShapingConfig()
    coarse: CoarseConfig = CoarseConfig()

    @model_validator(mode="after")
    def _different_ports(self) -> NanonisConfig:
        if len(set(self.ports)) != len(self.ports):
            raise ValueError("the ports must differ")
        return self

    def check(self, imaging: ImagingConfig, limits: LimitsConfig) -> None:
        """Refuse setpoints and coarse moves outside the limits."""
        if self.approach_setpoint_pA is not None:
            limits.check_setpoint("nanonis.approach_setpoint_pA", self.approach_setpoint_pA)
        setpoints = {
            "imaging.setpoint_pA": imaging.setpoint_pA,
            "nanonis.approach_setpoint_pA": self.approach_setpoint_pA,
        }
        safe_tip = self.shaping.safe_tip_nA
        for name, setpoint in setpoints.items():
            # Refused here, since at the instrument every approach would end with a withdrawal.
            if safe_tip is not None and setpoint is not None and not setpoint < safe_tip * 1e3:
                raise ValueError(
                    f"nanonis.shaping.safe_tip_nA = {safe_tip:g} would withdraw the tip at "
                    f"{name} = {setpoint:g}"
                )
        for name in ("retract_steps", "sideways_steps"):
            if getattr(self.coarse, name) > limits.coarse_steps:
                raise ValueError(
                    f"nanonis.coarse.{name} = {getattr(self.coarse, name)} exceeds "
                    f"limits.coarse_steps = {limits.coarse_steps}"
                )


class DeepSPMConfig(DriverSettings):
    """The LabVIEW server of DeepSPM.

    Attributes:
        host: Of the server.
        port: Of the server.
    """

    host: str = "127.0.0.1"
    port: Port = 50008


_Settings = TypeVar("_Settings", bound=DriverSettings)


class RealConfig(Section):
    """The real microscope.

    A driver from outside adds its own section, named as the driver: see
    `spm_gym.config.drivers`.

    Attributes:
        driver: Who drives the instrument: "nanonis", "deepspm", or the name of a driver that
            another package brings.
        approach_at_start: Whether a run that finds the tip withdrawn starts an automatic approach.
        withdraw_on_exit: Whether the tip is withdrawn at the end of a run, however it ends, if the
            driver can do that.
        z_window: Least and most extension of the z piezo with the tip at the surface, as shares of
            its range: 0 is fully retracted, where a surface that comes nearer crashes the tip, 1
            fully extended, where contact is lost. An approach is to end within, and a surface that
            drifts out is approached again before the end of the range. The least one should leave
            room for a step of the coarse motor. None switches both off.
    """

    driver: str = "nanonis"
    approach_at_start: bool = True
    withdraw_on_exit: bool = True
    # Around the 80 % at which the paper begins; a tilted sample moves the extension by some per
    # cent over an approach area.
    z_window: tuple[Fraction, Fraction] | None = (0.4, 0.95)
    imaging: ImagingConfig = ImagingConfig()
    limits: LimitsConfig = LimitsConfig()
    nanonis: NanonisConfig = NanonisConfig()
    deepspm: DeepSPMConfig = DeepSPMConfig()

    def section(self, kind: type[_Settings]) -> _Settings:
        """Return the settings of the driver that is chosen.

        Raises:
            TypeError: They are of another kind: the driver asks for those of another one.
        """
        found = getattr(self, self.driver)
        if not isinstance(found, kind):
            raise TypeError(f"real.{self.driver} is no {kind.__name__}")
        return found

    @model_validator(mode="after")
    def _within_own_limits(self) -> RealConfig:
        limits, imaging = self.limits, self.imaging
        if self.z_window is not None and not self.z_window[0] < self.z_window[1]:
            low, high = self.z_window
            raise ValueError(
                f"z_window must be [least, most] extension of the z piezo, not [{low:g}, {high:g}]"
            )
        smallest, largest = limits.bias_V
        if imaging.bias_V is not None and not smallest <= abs(imaging.bias_V) <= largest:
            raise ValueError(
                f"imaging.bias_V = {imaging.bias_V:g} exceeds limits.bias_V = {limits.bias_V}"
            )
        if imaging.setpoint_pA is not None:
            limits.check_setpoint("imaging.setpoint_pA", imaging.setpoint_pA)
        if imaging.speed_nm_per_s > limits.speed_nm_per_s:
            raise ValueError(
                f"imaging.speed_nm_per_s = {imaging.speed_nm_per_s:g} exceeds "
                f"limits.speed_nm_per_s = {limits.speed_nm_per_s:g}"
            )
        return self

    @model_validator(mode="after")
    def _fits_the_driver(self) -> RealConfig:
        # Settings that were built in Python, not loaded, know no sections of other packages.
        own = getattr(self, self.driver, None)
        if not isinstance(own, DriverSettings):
            raise ValueError(
                f"driver = {self.driver!r} has no settings: those of a driver that another package "
                "brings are read by spm_gym.load_config"
            )
        own.check(self.imaging, self.limits)
        return self
