"""The journal of a run: SQLite, an intent before and a result after every physical act.

Every scan is a file of its own besides. What belongs together is committed together: the rows of a
transition of the runner and the state that it leads to appear at once, so that a run that was
killed at any instant goes on from its last whole transition. Only intents are committed by
themselves, before the act.
"""

from __future__ import annotations

import hashlib
import json
import math
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spm_gym.config.json_file import parse_json
from spm_gym.envs.regions import Mark
from spm_gym.imaging.files import write_gsf
from spm_gym.journal.reader import (
    CHANNELS,
    JOURNAL,
    SCANS,
    JournalError,
    Label,
    channel_file,
    open_journal,
    read_marks,
    read_scan,
    scan_file,
)
from spm_gym.journal.recovered import (
    References,
    begin_or_take_up,
    refuse_scans_alone,
    scans_beyond,
    set_aside_scans,
)
from spm_gym.plain_state import from_bytes, to_bytes
from spm_gym.types import Scan


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """Where everything that follows comes from: hashes of what decides, versions of the packages.

    Attributes:
        config: The settings, as YAML.
        classifier_sha256: Of the classifier's file.
        agent_sha256: Of the weights that the agent begins with; empty without an agent.
        versions: Of packages.
        resumed: Whether the run goes on.
        command: That was started: run, train or evaluate.
    """

    config: str
    classifier_sha256: str
    agent_sha256: str
    versions: dict[str, str]
    resumed: bool
    command: str = "run"


class Journal:
    """Writes the journal of a run; use it in a ``with`` block, inside `locked_run`.

    Args:
        run: The run directory.
        references: Names the rows that a state refers to, to check a recovered journal by.
        durable: Whether what was committed survives a power cut too, not only a kill.

    Raises:
        JournalError: It is not a journal, or one that cannot be continued.
    """

    def __init__(self, run: Path, references: References, durable: bool = True) -> None:
        self.run = run
        self._durable = durable
        run.mkdir(parents=True, exist_ok=True)
        if not (run / JOURNAL).exists():
            refuse_scans_alone(run)
        self._db = open_journal(run / JOURNAL, writing=True)
        try:
            begin_or_take_up(self._db, run, references)
            # So that pages that read and the run that writes never wait for each other.
            self._db.execute("PRAGMA journal_mode = WAL")
            # Without FULL a power cut may cost the last commits: on a simulator only some time.
            self._db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
        except BaseException:
            self._db.close()
            raise
        self.session = 0

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def keep(self) -> None:
        """Commit what was written, without going on: the run ends in the middle of a transition."""
        self._db.commit()

    def rollback(self) -> None:
        """Forget everything since the last commit: a transition was interrupted."""
        self._db.rollback()

    def close(self) -> None:
        """Let go of the files; what was not committed is forgotten."""
        self._db.close()

    def begin_session(self, session: SessionRecord, pid: int) -> None:
        """Note what everything that follows comes from."""
        self.session = self._insert(
            "sessions",
            wall=time.time(),
            pid=pid,
            resumed=session.resumed,
            config_sha256=hashlib.sha256(session.config.encode()).hexdigest(),
            classifier_sha256=session.classifier_sha256,
            agent_sha256=session.agent_sha256,
            config=session.config,
            versions=json.dumps(session.versions),
            command=session.command,
        )
        # By itself, so that a run that is killed at once still says what it was started with.
        self._db.commit()

    def load_state(self) -> tuple[dict[str, Any], Any] | None:
        """Read the state of runner and simulated microscope at the last commit, if there is one.

        Raises:
            JournalError: It is damaged, or another version of this program wrote it.
        """
        row = self._db.execute("SELECT runner, instrument FROM state").fetchone()
        if row is None:
            return None
        kept = row["instrument"]
        try:
            return parse_json(row["runner"]), None if kept is None else from_bytes(kept)
        except (TypeError, ValueError) as error:
            raise JournalError(
                f"{self.run / JOURNAL} is damaged, or of another version of this program: one "
                f"cannot go on from its state: {error}"
            ) from error

    @property
    def has_news(self) -> bool:
        """Whether anything was written since the last commit."""
        return self._db.in_transaction

    def commit(self, runner: dict[str, Any], instrument: Any) -> None:
        """Commit a transition: all that was written since, and where the run goes on."""
        self._db.execute(
            "INSERT OR REPLACE INTO state VALUES (1, ?, ?)",
            (json.dumps(runner), None if instrument is None else to_bytes(instrument)),
        )
        self._db.commit()

    def record_act(self, entry: dict[str, Any]) -> None:
        """Take an intent or a result as `Guard` gives them; an intent is committed at once."""
        known = {key: _plain(value) for key, value in entry.items()}
        wall, act, result = known.pop("time"), known.pop("act"), known.pop("result")
        number, reason = known.pop("number", None), known.pop("reason", "")
        status = {key: known.pop(key) for key in _STATUS_KEYS if key in known}
        if number is not None and result != "intended":
            # One result only, or an act that was done twice would look like a single one.
            changed = self._db.execute(
                "UPDATE acts SET result = ?, reason = ?, wall_result = ?, after = ?"
                " WHERE number = ? AND result IS NULL",
                (result, reason, wall, json.dumps(status), number),
            ).rowcount
            # A second result would hide that an act was carried out twice.
            if changed != 1:
                raise JournalError(f"act {number} has a result already, or no intent")
            return
        intended = result == "intended"
        self._insert(
            "acts",
            session=self.session,
            number=number,
            act=act,
            details=json.dumps(known),
            wall=wall,
            before=json.dumps(status if intended else {}),
            result=None if intended else result,
            reason=reason,
            wall_result=None if intended else wall,
            after=json.dumps({} if intended else status),
        )
        # Before anything is sent: an act that cannot be recorded is not done. The row of the
        # decision goes with it, so that a resumed run knows what the act was for.
        if intended:
            self._db.commit()

    def acts(self) -> Iterator[dict[str, Any]]:
        """Read intents and results so far, as `Guard` takes them for its budgets."""
        for row in self._db.execute("SELECT number, act, details, result FROM acts ORDER BY id"):
            entry = {"act": row["act"], "monotonic": json.loads(row["details"]).get("monotonic")}
            if row["number"] is not None:
                yield entry | {"number": row["number"], "result": "intended"}
            if row["result"] is not None:
                yield entry | {"result": row["result"]}

    def last_act(self) -> int | None:
        """Return the number of the last act."""
        number: int | None = self._db.execute("SELECT MAX(number) FROM acts").fetchone()[0]
        return number

    def give_up_unfinished(self) -> sqlite3.Row | None:
        """Call acts unknown whose results were never written; returns the first of them.

        There are two if a kill has cut off the withdrawal that follows an interrupted act.
        """
        rows = self._db.execute("SELECT * FROM acts WHERE result IS NULL ORDER BY id").fetchall()
        for row in rows:
            self._db.execute(
                "UPDATE acts SET result = 'unknown', reason = 'the program was cut off',"
                " wall_result = ? WHERE id = ?",
                (time.time(), row["id"]),
            )
        first: sqlite3.Row | None = rows[0] if rows else None
        return first

    def add_area(
        self, number: int, coarse: tuple[int, int], certain: bool, now: float, reason: str
    ) -> None:
        """Note that an approach area is entered."""
        self._insert(
            "areas",
            number=number,
            coarse_x=coarse[0],
            coarse_y=coarse[1],
            certain=certain,
            time=now,
            reason=reason,
        )

    def add_mark(self, area: int, mark: Mark) -> None:
        """Note a blocked place."""
        self._insert("marks", area=area, x=mark.x, y=mark.y, radius=mark.radius, reason=mark.reason)

    def marks(self, area: int) -> list[Mark]:
        """Read the blocked places of an area; see `read_marks`."""
        try:
            return read_marks(self._db, area)
        except JournalError as error:
            raise JournalError(f"{self.run / JOURNAL}: {error}") from None

    def add_scan(
        self,
        scan: Scan,
        *,
        fraction: float,
        area: int,
        elapsed: float,
        label: Label | None,
        episode: int | None,
    ) -> int:
        """Write a scan to its file, and its row.

        Returns:
            Number of the scan, from 1.
        """
        last = self._db.execute("SELECT COALESCE(MAX(id), 0) FROM scans").fetchone()[0]
        # The file comes before its row: a kill in between leaves a file too many, not too few.
        file = scan_file(last + 1)
        (self.run / SCANS).mkdir(exist_ok=True)
        for channel in scan.channels:
            (self.run / CHANNELS).mkdir(exist_ok=True)
            beside = self.run / channel_file(last + 1, channel)
            write_gsf(beside, scan, synchronise=self._durable, channel=channel)
        write_gsf(self.run / file, scan, synchronise=self._durable)
        frame = scan.frame
        z_low, z_high = scan.z_range or (None, None)
        return self._insert(
            "scans",
            id=last + 1,
            session=self.session,
            file=file,
            label=label,
            area=area,
            x=frame.x,
            y=frame.y,
            size=frame.size,
            pixels=frame.pixels,
            lines=frame.lines,
            angle=frame.angle,
            fraction=fraction,
            bias=_plain(scan.bias),
            setpoint=_plain(scan.setpoint),
            z_low=z_low,
            z_high=z_high,
            z=_plain(scan.median_z),
            time=scan.started,
            wall=time.time(),
            elapsed=elapsed,
            episode=episode,
        )

    def label_scan(self, number: int, label: Label, reason: str = "") -> None:
        """Note the label of a scan."""
        self._update("scans", number, label=label, reason=reason)

    def record_reading(self, number: int, **values: float | None) -> None:
        """Note what was read from a scan, by the columns of the table; None or NaN if unknown."""
        self._update("scans", number, **{name: _plain(value) for name, value in values.items()})

    def scan(self, number: int) -> Scan:
        """Read a scan back, to the last bit.

        Raises:
            FileFormatError: Its file is gone or damaged.
        """
        row = self._db.execute("SELECT * FROM scans WHERE id = ?", (number,)).fetchone()
        return read_scan(self.run, row)

    def begin_episode(self, area: int, now: float, elapsed: float, first_scan: int) -> int:
        """Note that conditioning begins; returns the episode's number, from 1."""
        return self._insert("episodes", area=area, time=now, elapsed=elapsed, first_scan=first_scan)

    def end_episode(self, number: int, outcome: str, now: float, elapsed: float) -> None:
        """Note that it is over: "good" or "limit"."""
        self._update("episodes", number, outcome=outcome, time_end=now, elapsed_end=elapsed)

    def add_step(self, episode: int, number: int, **values: Any) -> int:
        """Note a decision before it is carried out; returns the row's number."""
        # Counted with the decision: an episode that is cut off has had these actions all the same.
        self._db.execute("UPDATE episodes SET actions = ? WHERE id = ?", (number, episode))
        return self._insert("steps", episode=episode, number=number, **values)

    def end_step(self, step: int, **values: Any) -> None:
        """Note what came of a decision."""
        self._update("steps", step, **values)

    def last_step(self) -> sqlite3.Row:
        """Read the last decision."""
        row: sqlite3.Row = self._db.execute("SELECT * FROM steps ORDER BY id DESC").fetchone()
        return row

    def learned_steps(self, after: int) -> Iterator[sqlite3.Row]:
        """Read finished steps with numbers beyond ``after``, in their order."""
        yield from self._db.execute(
            "SELECT * FROM steps WHERE id > ? AND scan_after IS NOT NULL ORDER BY id", (after,)
        )

    def add_recovery(self, trouble: str, **values: Any) -> int:
        """Note that something has to be recovered from; returns the row's number."""
        return self._insert("recoveries", trouble=trouble, **values)

    def end_recovery(self, number: int, result: str) -> None:
        """Note how it ended: "recovered" or "failed"."""
        self._update("recoveries", number, result=result)

    def add_event(self, now: float, kind: str, text: str) -> None:
        """Note something for people to read."""
        self._insert("events", wall=time.time(), time=now, kind=kind, text=text)

    def remove_orphan(self) -> None:
        """Delete the file of a scan whose row a kill has prevented: it will be taken again.

        A kill leaves one at most. If there are more, their rows were lost, as when an older copy of
        the journal was put in its place: then they are kept out of the way of new ones.
        """
        last = self._db.execute("SELECT COALESCE(MAX(id), 0) FROM scans").fetchone()[0]
        # Deleting is safe for one file only, which is taken again; of more, nobody knows.
        if scans_beyond(self.run, last + 1):
            set_aside_scans(self.run, last)
        (self.run / scan_file(last + 1)).unlink(missing_ok=True)
        # Its other images as well, or they would pass for those of the scan that takes its number.
        for other in (self.run / CHANNELS).glob(f"{last + 1:06d}_*.gsf"):
            other.unlink()
        for folder in (SCANS, CHANNELS):
            for half_written in (self.run / folder).glob(".[0-9]*-[0-9]*.gsf"):
                half_written.unlink()

    def _insert(self, table: str, **values: Any) -> int:
        names = ", ".join(values)
        places = ", ".join("?" for _ in values)
        cursor = self._db.execute(
            f"INSERT INTO {table} ({names}) VALUES ({places})", tuple(values.values())
        )
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def _update(self, table: str, number: int, **values: Any) -> None:
        settings = ", ".join(f"{name} = ?" for name in values)
        self._db.execute(f"UPDATE {table} SET {settings} WHERE id = ?", (*values.values(), number))


_STATUS_KEYS = ("z", "current", "approached", "status_error")


def _plain(value: Any) -> Any:
    """Replace NaN and infinity, which JSON has not, by None."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
