"""Labels of the images of a folder, in step with its manifest on the disk."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout

from spm_gym.atomic_file import remove_leftovers
from spm_gym.datasets.manifest import EARLIER, MANIFEST, ImageLabels, Manifest
from spm_gym.imaging.files import FileFormatError
from spm_gym.web.labelling.candidates import Candidate

_LOCK = ".labels.lock"
_Stamp = tuple[int, int, int]


class LabelsError(ValueError):
    """A label cannot be kept, and was not; the message says why."""


class Labels:
    """The manifest of a folder; every change is on the disk when it returns.

    What somebody else writes there meanwhile is read before the next change. Use it in a ``with``
    block: nobody else labels the folder from another program then.

    Args:
        folder: Of the images.
        candidates: Those that may be labelled. Labels in their names count where there is no
            manifest yet, as they do in training.

    Raises:
        LabelsError: Another program labels the folder, or nothing can be written there.
        FileFormatError: The manifest makes no sense.
    """

    def __init__(self, folder: Path, candidates: Sequence[Candidate]) -> None:
        self._path = folder / MANIFEST
        self._sessions = {candidate.file: candidate.session for candidate in candidates}
        # Two programs that each replace the whole manifest would lose one another's labels.
        self._lock = FileLock(folder / _LOCK)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise LabelsError(
                f"{folder} is being labelled by another program: open the page that it serves, "
                "or stop it first"
            ) from None
        except OSError as error:
            raise LabelsError(
                f"{folder} cannot be written, and labels are kept there: {error.strerror or error}"
            ) from error
        try:
            remove_leftovers(folder)
            self._stamp = self._stamp_on_disk()
            self._manifest = self._first(candidates)
        except BaseException:
            self._lock.release()
            raise

    def __enter__(self) -> Labels:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if os.name == "posix" and not self._path.exists():
            (self._path.parent / _LOCK).unlink(missing_ok=True)  # a folder is left as it was
        self._lock.release()

    @property
    def entries(self) -> Mapping[str, ImageLabels]:
        """Labels by file, as `refresh` last read them."""
        return self._manifest.entries

    @property
    def labellers(self) -> list[str]:
        """Names of all who have labelled, without `EARLIER`."""
        return [name for name in self._manifest.labellers if name.strip() and name != EARLIER]

    def by(self, name: str) -> dict[str, str]:
        """List all labels of a person, by file."""
        return {file: entry.by[name] for file, entry in self.entries.items() if name in entry.by}

    def labelled_before(self, file: str) -> bool:
        """Tell whether a file had a label before any that has a name."""
        return file in self.entries and EARLIER in self.entries[file].by

    def labelled(self, file: str) -> bool:
        """Tell whether a file has a label by anybody."""
        return file in self.entries and bool(self.entries[file].by)

    def session(self, file: str) -> str:
        """Return the measurement session of a listed file, or ""."""
        return self._manifest.session(file) or self._sessions.get(file, "")

    def leave_out(self, files: Iterable[str]) -> None:
        """List none of these files in a manifest that begins."""
        if self._stamp is None:
            for file in files:
                self._manifest.drop(file)

    def refresh(self) -> None:
        """Read what somebody else has written.

        Raises:
            LabelsError: It makes no sense, or is gone.
        """
        stamp = self._stamp_on_disk()
        if stamp == self._stamp:
            return
        if stamp is None:
            raise LabelsError(
                f"{self._path} is gone: put it back, or stop the page to begin a new one"
            )
        try:
            self._manifest = Manifest.read(self._path)
        except FileFormatError as error:
            raise LabelsError(f"{error}; nothing is saved until it is repaired") from None
        self._stamp = stamp

    def set_label(self, file: str, name: str, word: str) -> str:
        """Note the label that a person gives a file; "" takes it back.

        Returns:
            The label before.

        Raises:
            LabelsError: It cannot be kept.
        """
        self.refresh()
        listed = file in self.entries
        before = self._manifest.label_by(file, name) if listed else ""
        self._change(file, lambda manifest: manifest.set_label(file, name, word))
        return before

    def set_consensus(self, file: str, consensus: str) -> None:
        """Note the consensus of all; "" takes it back.

        Raises:
            LabelsError: It cannot be kept.
        """
        self.refresh()
        self._change(file, lambda manifest: manifest.set_consensus(file, consensus))

    def _change(self, file: str, change: Callable[[Manifest], None]) -> None:
        # A copy: what cannot be written is not taken for a label either.
        changed = self._manifest.copy()
        if file not in changed.entries:
            changed.add(file, self._sessions.get(file, ""))
        change(changed)
        try:
            changed.write(self._path)
        except (OSError, ValueError, csv.Error) as error:
            reason = error.strerror if isinstance(error, OSError) else None
            raise LabelsError(f"not saved: {self._path}: {reason or error}") from error
        self._manifest, self._stamp = changed, self._stamp_on_disk()

    def _first(self, candidates: Sequence[Candidate]) -> Manifest:
        if self._stamp is not None:
            return Manifest.read(self._path)
        manifest = Manifest()
        for candidate in candidates:
            if candidate.label:
                manifest.add(candidate.file, candidate.session, candidate.label)
        return manifest

    def _stamp_on_disk(self) -> _Stamp | None:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return None
        # The file's number as well: a manifest that is replaced within one tick of the clock may
        # have the same size.
        return status.st_mtime_ns, status.st_size, status.st_ino
