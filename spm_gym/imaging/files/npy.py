"""Heights in metres from NumPy arrays (.npy)."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from tokenize import TokenError
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy

from spm_gym.imaging.files.text import data_length
from spm_gym.imaging.files.topography import FileFormatError, Topography

_READ_HEADER = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
# NumPy evaluates the header as a Python literal, which fails on damaged headers in all these ways.
_DAMAGED = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RecursionError,
    SyntaxError,
    TokenError,
    TypeError,
    ValueError,
)


def read_npy(path: Path) -> Topography:
    """Read an array of two dimensions, the first one in the file.

    Raises:
        FileFormatError: Damaged, or not such an array.
    """
    with path.open("rb") as file:
        shape, fortran, dtype = _header(file)
        if dtype.kind != "f":
            raise FileFormatError(f"heights must be floating-point numbers, not {dtype}")
        if len(shape) != 2 or min(shape) < 1:
            raise FileFormatError(f"an image (rows, columns) is needed, not shape {shape}")
        needed, begin = dtype.itemsize * math.prod(shape), file.tell()
        # More bytes are no fault: `numpy.save` may write several arrays one after the other.
        there = file.seek(0, 2) - begin
        data_length(min(there, needed), needed, f"{shape[1]} x {shape[0]} px")
        file.seek(begin)
        data = file.read(needed)
    # Not `numpy.load`: it could unpickle objects, which runs code from the file.
    z = np.ndarray(shape, dtype, data, order="F" if fortran else "C")
    return Topography(z.astype(np.float64))


def _header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of headers that Python 2 wrote
            return _READ_HEADER[npy.read_magic(file)](file)
    except _DAMAGED as error:
        raise FileFormatError("its header is damaged, or is not one of NumPy's") from error
