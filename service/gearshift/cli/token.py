"""`gearshift token`: a new token for a client, and what the access file has of it."""

from __future__ import annotations

import sys

from gearshift.access import digest_of, new_token


def token() -> None:
    """Make a token for a client: the token on standard output, for the client alone; on standard
    error the line for the access file, which the token cannot be made from.

    `gearshift token > token` keeps the token in a file and shows the line.
    """
    made = new_token()
    print(made)  # noqa: T201 - for the client's file
    print(f'tokens_sha256 = ["{digest_of(made)}"]', file=sys.stderr)  # noqa: T201 - for people
