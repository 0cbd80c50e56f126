"""Expressions in a PyTorch program: sizes that follow from other sizes.

PyTorch gives them to SymPy, which evaluates them as Python with all of its own functions at hand.
Only arithmetic gets through here, and none that grows without end.
"""

from __future__ import annotations

import ast
import re

LONGEST = 10_000
"""Characters."""
DEEPEST = 100
"""Levels of nesting."""
LARGEST_POWER = 16

FUNCTIONS = frozenset(
    {
        *("Abs", "And", "CeilDiv", "CeilToInt", "CleanDiv", "Eq", "FloatTrueDiv", "FloorDiv"),
        *("FloorToInt", "Ge", "Gt", "Identity", "IntTrueDiv", "Le", "Lt", "Max", "Min", "Mod"),
        *("ModularIndexing", "Ne", "Not", "Or", "PythonMod", "RoundToInt", "ToFloat"),
        *("TruncToFloat", "TruncToInt", "Where", "ceiling", "floor"),
    }
)
"""Of SymPy, and of torch/utils/_sympy/functions.py."""

ASSUMPTIONS = frozenset({"positive", "nonnegative", "integer", "real", "zero", "nonzero"})
CONSTANTS = frozenset({"oo", "int_oo"})
_SYMBOL = re.compile(r"(s|u|z|f|zf|zuf)\d+")

_NODES = (
    ast.Expression,
    ast.BinOp,
    ast.UnaryOp,
    ast.BoolOp,
    ast.Compare,
    ast.Load,
    ast.operator,
    ast.unaryop,
    ast.boolop,
    ast.cmpop,
)


def check_expression(text: object) -> None:
    """ValueError with a sentence for anything else than arithmetic of symbols."""
    if not isinstance(text, str) or len(text) > LONGEST:
        raise ValueError(f"has a size of more than {LONGEST} characters, or that is no text")
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise _refused(text) from None
    left: list[tuple[ast.AST, int]] = [(tree, 0)]
    while left:
        node, depth = left.pop()
        if depth > DEEPEST or not _good(node):
            raise _refused(text)
        if not isinstance(node, ast.Call):
            left += [(child, depth + 1) for child in ast.iter_child_nodes(node)]
        elif not _is_symbol(node):
            left += [(child, depth + 1) for child in node.args]


def _good(node: ast.AST) -> bool:
    if isinstance(node, ast.Constant):
        return isinstance(node.value, bool | int | float)
    if isinstance(node, ast.Name):
        return node.id in CONSTANTS or _SYMBOL.fullmatch(node.id) is not None
    if isinstance(node, ast.Call):
        return _is_symbol(node) or (
            isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS and not node.keywords
        )
    if isinstance(node, ast.BinOp):
        if isinstance(node.op, ast.LShift):
            return False
        if isinstance(node.op, ast.Pow):
            power, within = node.right, ast.walk(node.left)
            # A power of a power is soon larger than the memory.
            return (
                isinstance(power, ast.Constant)
                and isinstance(power.value, int)
                and 0 <= power.value <= LARGEST_POWER
                and not any(isinstance(each, ast.Pow) for each in within)
            )
    return isinstance(node, _NODES)


def _is_symbol(node: ast.Call) -> bool:
    """Symbol('s77', positive=True, integer=True)"""
    return (
        isinstance(node.func, ast.Name)
        and node.func.id == "Symbol"
        and len(node.args) == 1
        and isinstance(node.args[0], ast.Constant)
        and isinstance(node.args[0].value, str)
        and _SYMBOL.fullmatch(node.args[0].value) is not None
        and all(
            word.arg in ASSUMPTIONS
            and isinstance(word.value, ast.Constant)
            and isinstance(word.value.value, bool)
            for word in node.keywords
        )
    )


def _refused(text: str) -> ValueError:
    return ValueError(f"has {text[:200]!r} as a size; sizes may be arithmetic of symbols")
