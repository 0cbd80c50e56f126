"""Functions that a recipe names: `module:name` of an installed package, or `file.py:name`."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from gearshift.errors import GearshiftError


class FunctionError(GearshiftError):
    """A recipe names a function that cannot be found or called."""


def resolve(spelled: str, folder: Path) -> Callable[..., Any]:
    """The function that `spelled` names; a file is looked up relative to `folder`."""
    place, _, name = spelled.partition(":")
    if not place or not name:
        raise FunctionError(
            f"{spelled!r} names no function; expected `file.py:name` or `package.module:name`"
        )
    module = _module(place, folder)
    found = getattr(module, name, None)
    if not callable(found):
        known = ", ".join(key for key, value in vars(module).items() if _offered(key, value))
        raise FunctionError(f"{place} has no function {name!r}; it has {known or 'none'}")
    function: Callable[..., Any] = found
    return function


def source_sha256(spelled: str, folder: Path) -> str:
    """The digest of the file in which the function is written."""
    origin = _module(spelled.partition(":")[0], folder).__file__
    if origin is None:
        raise FunctionError(f"{spelled!r} is not written in a file, so it cannot be recognized")
    return hashlib.sha256(Path(origin).read_bytes()).hexdigest()


def _module(place: str, folder: Path) -> ModuleType:
    if not place.endswith(".py"):
        try:
            return importlib.import_module(place)
        except ImportError as error:
            raise FunctionError(f"cannot import {place!r}: {error}") from error
    path = (folder / place).resolve()
    if not path.is_file():
        raise FunctionError(f"no such file: {path}")
    # The same file is the same module, however often it is named: classes stay identical.
    name = f"gearshift_recipe_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise FunctionError(f"{path} does not run: {type(error).__name__}: {error}") from error
    return module


def _offered(name: str, value: object) -> bool:
    return callable(value) and not name.startswith("_")
