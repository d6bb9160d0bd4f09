"""Queries whose answer is one value."""

from __future__ import annotations

import sqlite3
from typing import Any


def single(db: sqlite3.Connection, query: str, *values: Any) -> Any:
    """Return the first column of the first row; None without a row, or for SQL's NULL."""
    row = db.execute(query, values).fetchone()
    return None if row is None else row[0]


def count_rows(db: sqlite3.Connection, query: str, *values: Any) -> int:
    """Return a number of rows that a query has counted."""
    return int(single(db, query, *values))
