"""Folder of saved scans, always below the server's own folder.

The protocol has no passwords: otherwise anybody who reaches a port could write wherever the user
who started the server may.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from spm_gym.servers.nanonis.bench import Refused

_FORBIDDEN = frozenset('/\\:*?"<>|')
"""Characters that separate folders, or that Windows does not allow in names of files."""

_LONGEST_NAME = 150


class SessionFolder:
    """Folder for saved scans; clients may choose one below it.

    Args:
        root: The server's own folder, made when the first scan is saved; None for one in the
            system's temporary folder, made at its first use.
    """

    def __init__(self, root: Path | None) -> None:
        self._root = None if root is None else root.absolute()
        self._temporary = root is None
        self._chosen: Path | None = None

    @property
    def root(self) -> Path:
        """Folder of the server itself."""
        if self._root is None:
            self._root = Path(tempfile.mkdtemp(prefix="virtual-nanonis-"))
        return self._root

    @property
    def path(self) -> Path:
        """Folder of the next scan."""
        return self.root if self._chosen is None else self._chosen

    def choose(self, path: str) -> None:
        """Choose the folder of further scans.

        Raises:
            Refused: It is not below the server's own folder, or its names are not plain names.
        """
        chosen = Path(os.path.normpath(path)) if path.isprintable() else Path()
        root = self.root
        # Resolved too, since a link inside the folder may lead out of it.
        inside = chosen.is_absolute() and chosen.is_relative_to(root)
        if not inside or not chosen.resolve().is_relative_to(root.resolve()):
            raise Refused(f"the session path {path!r} is refused: scans go below {str(root)!r}")
        for name in chosen.relative_to(root).parts:
            if name != plain_name(name):
                raise Refused(f"the session path {path!r} is refused: {name!r} is not a plain name")
        self._chosen = chosen

    def discard_if_empty(self) -> None:
        """Remove a temporary folder in which nothing was saved."""
        if self._temporary and self._root is not None:
            with suppress(OSError):
                self._root.rmdir()


def plain_name(text: str) -> str:
    """Make text the start of a file's name: no folders, no control characters, not hidden."""
    name = "".join(
        "_" if letter in _FORBIDDEN or not letter.isprintable() else letter for letter in text
    )
    # Hidden files are easily overlooked, and ".." leads out of the folder.
    if name.startswith("."):
        name = f"_{name[1:]}"
    # Disks count bytes, and a letter may have four.
    return name.encode()[:_LONGEST_NAME].decode(errors="ignore")
