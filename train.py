"""Train the agent or the classifier: ``python train.py --help``."""

import sys

try:
    from spm_gym.cli.train import main
except ModuleNotFoundError as error:
    sys.exit(f"error: the package {error.name!r} is missing: run 'make install'")

if __name__ == "__main__":
    sys.exit(main())
