"""Result files that are there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from gearshift.errors import ConfigurationInvalid


def check_writable(path: Path, option: str) -> None:
    """ConfigurationInvalid, naming `option`, if a file could not be written at `path`: told
    before hours of simulation, not after."""
    folder = path.parent
    if path.is_dir():
        raise ConfigurationInvalid(f"{option} {path}: is a folder; name a file in it")
    if not folder.is_dir():
        raise ConfigurationInvalid(f"{option} {path}: there is no folder {folder}; make it first")
    if not os.access(folder, os.W_OK):
        raise ConfigurationInvalid(f"{option} {path}: the folder {folder} is not writable")


def write_files(contents: Mapping[Path, bytes]) -> None:
    """Write all files beside their places first and then move each there.

    Raises ConfigurationInvalid if one cannot be written; none has then changed.
    """
    unfinished = {path: path.with_name(f".{path.name}.{os.getpid()}.part") for path in contents}
    try:
        for path, content in contents.items():
            unfinished[path].write_bytes(content)
        for path, part in unfinished.items():
            part.replace(path)
    except OSError as error:
        raise ConfigurationInvalid(
            f"{error.filename}: cannot be written: {error.strerror}; nothing was changed"
        ) from None
    finally:
        for part in unfinished.values():
            part.unlink(missing_ok=True)
