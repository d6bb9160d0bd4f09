"""Reading topographies: plane removal, normalisation, clean square, diagnosis."""

from spm_gym.imaging.clean_square import Square, clean_pixels, largest_clean_square
from spm_gym.imaging.diagnosis import Diagnosis, diagnose
from spm_gym.imaging.normalisation import normalise
from spm_gym.imaging.plane import Plane, Terraces, find_terraces, fit_plane, level
from spm_gym.imaging.previews import interpolate_lines
from spm_gym.imaging.reading import Readings, read_scans, readings_of
from spm_gym.imaging.robust import noise

__all__ = [
    "Diagnosis",
    "Plane",
    "Readings",
    "Square",
    "Terraces",
    "clean_pixels",
    "diagnose",
    "find_terraces",
    "fit_plane",
    "interpolate_lines",
    "largest_clean_square",
    "level",
    "noise",
    "normalise",
    "read_scans",
    "readings_of",
]
