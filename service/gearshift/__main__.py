"""`python -m gearshift` is the `gearshift` command."""

from gearshift.cli import main

main()
