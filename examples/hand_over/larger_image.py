"""Take a larger image with the tip that spm-gym hands over, with the lab's own settings.

    spm-gym run --env real --config my_lab.yaml --when-good "python larger_image.py"

It is taken around the good image, within the limits of the run, and written as
``images/<image>.gsf``.
"""

import os
from contextlib import closing
from pathlib import Path

from spm_gym import load_config
from spm_gym.assembly.drivers import connect_microscope
from spm_gym.imaging.files import write_gsf
from spm_gym.instrument.driver import DriverContext
from spm_gym.types import Frame

SIZE_M, PIXELS = 100e-9, 256

run = Path(os.environ["SPM_GYM_RUN_DIR"])
image = Path(os.environ["SPM_GYM_IMAGE"])
config = load_config(run / "config.yaml")
frame = Frame(float(os.environ["SPM_GYM_X_M"]), float(os.environ["SPM_GYM_Y_M"]), SIZE_M, PIXELS)

# Without leave_tip the tip would be withdrawn at the end, and the run would end.
with closing(connect_microscope(config, DriverContext(leave_tip=lambda: True))) as instrument:
    scan = instrument.scan(frame)

target = run / "images" / image.name
target.parent.mkdir(exist_ok=True)
write_gsf(target, scan)
print(f"{target}: {SIZE_M * 1e9:g} nm, {PIXELS} x {PIXELS} pixels")
