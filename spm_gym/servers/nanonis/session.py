"""Where scans are saved: below one folder of the server's own, whatever a client asks for.

The protocol knows no passwords, so whoever reaches a port could otherwise write wherever the user
who started the server may.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from spm_gym.servers.nanonis.bench import Refused

_UNWANTED = frozenset('/\\:*?"<>|')
"""In names of files: they part folders, or no disk of Windows takes them."""

_LONGEST_NAME = 150


class SessionFolder:
    """The folder for saved scans, which clients may change for another one below it.

    Args:
        root: The server's own folder, made when the first scan is saved; None for one in the
            system's temporary folder, made when somebody asks for it.
    """

    def __init__(self, root: Path | None) -> None:
        self._root = None if root is None else root.absolute()
        self._temporary = root is None
        self._chosen: Path | None = None

    @property
    def root(self) -> Path:
        """The server's own folder."""
        if self._root is None:
            self._root = Path(tempfile.mkdtemp(prefix="virtual-nanonis-"))
        return self._root

    @property
    def path(self) -> Path:
        """Where the next scan is saved."""
        return self.root if self._chosen is None else self._chosen

    def choose(self, path: str) -> None:
        """Save further scans there.

        Raises:
            Refused: It is not below the server's own folder, or its names are no names.
        """
        chosen = Path(os.path.normpath(path)) if path.isprintable() else Path()
        root = self.root
        inside = chosen.is_absolute() and chosen.is_relative_to(root)
        if not inside or not chosen.resolve().is_relative_to(root.resolve()):
            raise Refused(f"the session path {path!r} is refused: scans go below {str(root)!r}")
        for name in chosen.relative_to(root).parts:
            if name != plain_name(name):
                raise Refused(f"the session path {path!r} is refused: {name!r} is no plain name")
        self._chosen = chosen

    def discard_if_empty(self) -> None:
        """Remove a temporary folder in which nothing was saved."""
        if self._temporary and self._root is not None:
            with suppress(OSError):
                self._root.rmdir()


def plain_name(text: str) -> str:
    """Text as the beginning of a file's name: no folders, no control characters, not hidden."""
    name = "".join(
        "_" if letter in _UNWANTED or not letter.isprintable() else letter for letter in text
    )
    if name.startswith("."):
        name = f"_{name[1:]}"
    # Disks count bytes, and a letter may have four.
    return name.encode()[:_LONGEST_NAME].decode(errors="ignore")
