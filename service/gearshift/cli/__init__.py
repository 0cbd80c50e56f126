"""The `gearshift` command."""

from gearshift.cli.commands import main

__all__ = ["main"]
