"""``python -m spm_gym`` is ``spm-gym``."""

import sys

from spm_gym.cli import main

sys.exit(main())
