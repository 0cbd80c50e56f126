"""What the extra `simulate` installs is only looked for when something needs it."""

from __future__ import annotations

from importlib.util import find_spec

from gearshift.errors import ConfigurationInvalid

NAMES = {"scipy": "SciPy", "matplotlib": "Matplotlib"}


def need(module: str, what: str) -> None:
    """ConfigurationInvalid with the command that installs it if `what` lacks `module`."""
    if find_spec(module) is None:
        raise ConfigurationInvalid(
            f"{what} needs {NAMES[module]}, which is not installed;"
            f" run: pip install 'gearshift[simulate]'"
        )
