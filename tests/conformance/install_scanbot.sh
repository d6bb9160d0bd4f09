#!/usr/bin/env bash
# Installs Scanbot in an environment of its own (170 MB to download), because it needs NumPy 1.
# Without its dependencies, because opencv-python would ask for graphics libraries of the system;
# scanbot.txt lists what its server needs. With the Python of .venv, so make install comes first.
set -euo pipefail
cd "$(dirname "$0")/../.."
"${PYTHON:-.venv/bin/python}" -m venv .venv/scanbot
.venv/scanbot/bin/pip install --quiet --requirement tests/conformance/scanbot.txt
.venv/scanbot/bin/pip install --quiet --no-deps scanbot==4.5.1
