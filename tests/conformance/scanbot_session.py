"""Give Scanbot the commands of standard input, one a line; runs where Scanbot is installed.

The working directory holds ``scanbot_config.ini`` and receives the pictures.
"""

from __future__ import annotations

import os
import sys
import threading
import traceback


def main() -> None:
    threading.excepthook = give_up
    from scanbot.server import global_  # type: ignore[import-not-found]
    from scanbot.server.scanbot_interface import (  # type: ignore[import-not-found]
        scanbot_interface,
    )

    interface = scanbot_interface(module_dir="./")
    for command in sys.stdin.read().splitlines():
        print(f"> {command}", flush=True)
        interface.handle_message(command)
        if isinstance(global_.tasks, threading.Thread):
            global_.tasks.join()


def give_up(failure: threading.ExceptHookArgs) -> None:
    """Scanbot works in threads, where an exception would otherwise end nothing."""
    traceback.print_exception(failure.exc_value)
    sys.stdout.flush()
    os._exit(1)


if __name__ == "__main__":
    main()
