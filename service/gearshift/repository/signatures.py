"""Comparing signatures: all variants of a model must take and give the same tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gearshift.core.catalog import Signature, TensorSpec


def differences(mine: Signature, other: Signature, other_name: str) -> Iterator[str]:
    """A sentence for every tensor in which `mine` differs from variant `other_name`'s.

    The order of the tensors does not matter: they travel by name.
    """
    yield from _compare("input", mine.inputs, other.inputs, other_name)
    yield from _compare("output", mine.outputs, other.outputs, other_name)


def _compare(
    kind: str, mine: Sequence[TensorSpec], other: Sequence[TensorSpec], other_name: str
) -> Iterator[str]:
    expected = {tensor.name: tensor for tensor in other}
    found = {tensor.name: tensor for tensor in mine}
    rule = "all variants of a model share one signature"
    for name, tensor in found.items():
        if name not in expected:
            names = ", ".join(repr(known) for known in expected) or "none"
            yield f"has {kind} {name!r}, but variant {other_name!r} has {names}; {rule}"
            continue
        wanted = expected[name]
        if tensor.datatype != wanted.datatype:
            yield (
                f"{kind} {name!r} is {tensor.datatype}, but {wanted.datatype} in variant"
                f" {other_name!r}; {rule}"
            )
        if tensor.shape != wanted.shape:
            yield (
                f"{kind} {name!r} has shape {list(tensor.shape)} per row, but"
                f" {list(wanted.shape)} in variant {other_name!r}; {rule}"
            )
    for name in expected:
        if name not in found:
            yield f"has no {kind} {name!r}, but variant {other_name!r} has; {rule}"
