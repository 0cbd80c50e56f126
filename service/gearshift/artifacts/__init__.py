"""Files that others made, taken as hostile: opened without leaving their folder, bounded before
they are read, checked before a parser sees them, hashed as the very bytes that are then used."""

from gearshift.artifacts.files import read_inside, reason
from gearshift.artifacts.onnx import External, examine
from gearshift.artifacts.programs import checked_program, examine_program
from gearshift.artifacts.reading import Allowance, complete, read, read_again
from gearshift.artifacts.samples import LARGEST_SAMPLES, Header, SamplesFile

__all__ = [
    "LARGEST_SAMPLES",
    "Allowance",
    "External",
    "Header",
    "SamplesFile",
    "checked_program",
    "complete",
    "examine",
    "examine_program",
    "read",
    "read_again",
    "read_inside",
    "reason",
]
