"""Take a bias spectrum with the tip that spm-gym hands over, by the vendor's package.

    pip install nanonis-spm
    spm-gym run --env real --config my_lab.yaml --when-good "python spectrum.py"

It moves to the clean place of the good image, sweeps the bias there, and writes the spectrum beside
the image as ``spectra/<image>.csv``. The controller restores the bias after a sweep by itself.
"""

import csv
import os
import socket
from pathlib import Path

import nanonis_spm

from spm_gym import load_config

run = Path(os.environ["SPM_GYM_RUN_DIR"])
image = Path(os.environ["SPM_GYM_IMAGE"])
nanonis = load_config(run / "config.yaml").real.nanonis

with socket.create_connection((nanonis.host, nanonis.ports[0])) as connection:
    controller = nanonis_spm.Nanonis(connection)
    x, y = float(os.environ["SPM_GYM_X_M"]), float(os.environ["SPM_GYM_Y_M"])
    controller.FolMe_XYPosSet(x, y, 1)
    controller.BiasSpectr_Open()
    controller.BiasSpectr_LimitsSet(-1.0, 1.0)
    _, _, reply = controller.BiasSpectr_Start(1, image.stem)

channels, columns = reply[2], reply[5]
target = run / "spectra" / f"{image.stem}.csv"
target.parent.mkdir(exist_ok=True)
with target.open("w", newline="") as file:
    table = csv.writer(file)
    table.writerow(channels)
    table.writerows(zip(*columns, strict=True))
print(f"{target}: {len(columns[0])} points at {x * 1e9:.1f}, {y * 1e9:.1f} nm")
