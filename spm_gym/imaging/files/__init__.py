"""Files of height images: NumPy, Nanonis and Gwyddion formats are read, Gwyddion's is written."""

from spm_gym.imaging.files.gsf import write_gsf
from spm_gym.imaging.files.reading import READERS, read_gsf_scan, read_heights, read_topography
from spm_gym.imaging.files.topography import FileFormatError, NoTopographyError, Topography

__all__ = [
    "READERS",
    "FileFormatError",
    "NoTopographyError",
    "Topography",
    "read_gsf_scan",
    "read_heights",
    "read_topography",
    "write_gsf",
]
