"""Feedback: answers and their labels in one database, and what they say the variants are worth."""

from gearshift.feedback.answers import Readings
from gearshift.feedback.book import Book, ByVariant
from gearshift.feedback.learning import Learner
from gearshift.feedback.metrics import FeedbackCollector
from gearshift.feedback.recorder import Recorder
from gearshift.feedback.reporting import Reporting
from gearshift.feedback.store import Store

__all__ = [
    "Book",
    "ByVariant",
    "FeedbackCollector",
    "Learner",
    "Readings",
    "Recorder",
    "Reporting",
    "Store",
]
