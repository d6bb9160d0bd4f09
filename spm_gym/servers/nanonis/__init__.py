"""Virtual Nanonis controller with a simulated microscope behind it."""

from spm_gym.servers.nanonis.controller import Refused, VirtualController
from spm_gym.servers.nanonis.faults import Fault, load_faults
from spm_gym.servers.nanonis.server import PORTS, VirtualNanonis

__all__ = ["PORTS", "Fault", "Refused", "VirtualController", "VirtualNanonis", "load_faults"]
