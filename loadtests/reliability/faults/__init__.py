"""Faults that are put into real servers, by where they strike."""
