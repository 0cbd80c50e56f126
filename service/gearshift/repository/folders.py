"""Which folders of a repository are models."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from gearshift.repository.files import Root, reason
from gearshift.repository.findings import Findings, shown
from gearshift.repository.schema import NAME_RULE, Name

MODEL_FILE = "model.toml"

FOREIGN = frozenset({"lost+found"})
"""Folders that file systems make at the top of a volume, which a repository often is."""

MOST_MODELS = 1_000

_NAME: TypeAdapter[str] = TypeAdapter(Name)


def model_folders(root: Root, findings: Findings, only: Collection[str] | None) -> list[Path]:
    """The folders that should be models, by name; hidden ones, plain files and what a file
    system keeps for itself are passed over."""
    complaint = root.complaint(root.path, folder=True)
    if complaint is not None:
        findings.add(str(root.path), "", f"{complaint}; give the folder that holds the models")
        return []
    if root.complaint(root.path / MODEL_FILE) is None:
        findings.add(
            MODEL_FILE,
            "",
            "is that of one model, and a repository is the folder above it, with a folder for each"
            " model; give that one",
        )
        return []
    try:
        folders = [
            path
            for path in sorted(root.path.iterdir())
            if not path.name.startswith(".") and path.name not in FOREIGN and path.is_dir()
        ]
    except OSError as error:
        findings.add(str(root.path), "", f"cannot be read: {reason(error)}")
        return []
    if not folders:
        findings.add(
            str(root.path), "", f"holds no models; expected folders with a {MODEL_FILE} in each"
        )
    if len(folders) > MOST_MODELS:
        findings.add(
            str(root.path),
            "",
            f"holds {len(folders)} folders of models; {MOST_MODELS} are the most",
        )
        return []
    good = []
    for folder in folders:
        if only is not None and folder.name not in only:
            continue
        complaint = root.complaint(folder, folder=True)
        try:
            _NAME.validate_python(folder.name)
        except ValidationError:
            complaint = f"{shown(folder.name)} is not a good name; expected {NAME_RULE}"
        if complaint is None:
            good.append(folder)
        else:
            findings.add(root.relative(folder), "", complaint)
    return good
