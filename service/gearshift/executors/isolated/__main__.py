"""`python -m gearshift.executors.isolated`: one worker process. Started by the server only."""

from __future__ import annotations

import sys

from gearshift.executors.isolated.process import serve

serve(*map(int, sys.argv[1:]))
