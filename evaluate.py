"""Compare the agent with baselines, interleaved: ``python evaluate.py --help``."""

import sys

try:
    from spm_gym.cli.evaluate import main
except ModuleNotFoundError as error:
    sys.exit(f"error: the package {error.name!r} is missing: run 'make install'")

if __name__ == "__main__":
    sys.exit(main())
