"""The steps there are: texts to tokens, pictures to pixels, scores to labels. Functions of their
arguments; what they read of callers is hostile, and bounded before it is decoded."""

from gearshift.steps.answers import Labels, Normalize, Softmax, Threshold, largest
from gearshift.steps.making import check, made
from gearshift.steps.pictures import Picture
from gearshift.steps.texts import Tokenize

__all__ = [
    "Labels",
    "Normalize",
    "Picture",
    "Softmax",
    "Threshold",
    "Tokenize",
    "check",
    "largest",
    "made",
]
