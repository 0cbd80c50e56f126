"""PyTorch archives are looked at before PyTorch sees them; made by hand here, without it."""

from __future__ import annotations

import struct
import zipfile
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gearshift.artifacts import checked_program, examine_program
from gearshift.artifacts.expressions import check_expression
from program_archive import PROGRAM, SYMBOL, WEIGHTS, archive, tensor


def with_node(**changes: Any) -> dict[str, Any]:
    program = deepcopy(PROGRAM)
    program["graph_module"]["graph"]["nodes"][0] |= changes
    return {"models/model.json": program}


def with_weight(**changes: Any) -> dict[str, Any]:
    weights = deepcopy(WEIGHTS)
    weights["config"]["l.weight"] |= changes
    return {"data/weights/model_weights_config.json": weights}


def test_a_sound_one_gives_its_sample_inputs():
    assert checked_program(archive()).samples == b"samples"
    assert examine_program(archive()) == ()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"models/other.json": PROGRAM}, "holds 2 programs; expected one"),
        ({"models/model.json": None}, "holds 0 programs; expected one"),
        ({"models/model.json": b"{"}, "'m/models/model.json' in it is no JSON"),
        ({"models/model.json": b"[" * 100_000}, "nested too deeply|no JSON"),
        ({"data/weights/model_weights_config.json": None}, "lacks data/weights/model_weights"),
        ({"data/constants/model_constants_config.json": {}}, "describes no program: KeyError"),
        ({"data/weights/model_weights_config.json": {"config": [1]}}, "describes no program"),
        ({"data/sample_inputs/model.pt": None}, "lacks its sample inputs"),
        ({"data/aotinductor/model/a.so": b"ELF"}, "holds machine code, which is not served"),
        ({"data/constants/custom_obj_0": b"x"}, "'data/constants/custom_obj_0', which is not"),
        ({"data/constants/opaque_obj_0": b"x"}, "which is not served"),
        ({"data/weights/model.pt": b"x"}, "which is not served"),
        ({"extra/a": b"x"}, "which is not served"),
        ({"data/weights/../../etc": b"x"}, "which is not served"),
    ],
)
def test_members_that_must_not_be_there_or_must(changes, reason):
    with pytest.raises(ValueError, match=reason):
        examine_program(archive(changes))


@pytest.mark.parametrize(
    "target",
    [
        "torch.hub.load",
        "torch.load",
        "torch.ops.aten.from_file.default",
        "torch.ops.load_library",
        "torch.ops.aten.__class__",
        "torch.ops.aten.add.Tensor.__globals__",
        "torch.ops.mine.op.default",
        "torch.sys.modules",
        "_operator.attrgetter",
        "_operator.methodcaller",
        "math.factorial",
        "#mine:op",
        "os.system",
        "",
        None,
        {"a": 1},
    ],
)
def test_what_it_may_not_call(target):
    with pytest.raises(ValueError, match="calls .*; called may be operators"):
        examine_program(archive(with_node(target=target)))
    if target:
        argument = [{"name": "f", "arg": {"as_operator": target}}]
        with pytest.raises(ValueError, match="calls .*; called may be operators"):
            examine_program(archive(with_node(inputs=argument)))


@pytest.mark.parametrize(
    "target",
    [
        "torch.ops.aten.add.Tensor",
        "torch.ops.aten.relu",
        "torch.ops.quantized_decomposed.quantize_per_tensor.default",
        "_operator.getitem",
        "torch.sym_max",
        "torch.ops.higher_order.wrap_with_set_grad_enabled",
    ],
)
def test_what_it_may_call(target):
    examine_program(archive(with_node(target=target)))


@pytest.mark.parametrize(
    "value", [{"as_custom_obj": {"name": "a"}}, {"spec": '[1, {"__enum__": true, "fqn": "os:x"}]'}]
)
def test_values_that_are_no_tensors(value):
    with pytest.raises(ValueError, match="objects of other classes|an enumeration"):
        examine_program(archive(with_node(inputs=[value])))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"use_pickle": True}, "'l.weight' is pickled"),
        ({"path_name": "weight_9"}, "lies in 'weight_9', which is not there"),
        ({"path_name": "../constants/tensor_0"}, "which is not there"),
        ({"tensor_meta": tensor(2, 4)}, "needs 32 bytes of 'weight_0', which has 24"),
        ({"tensor_meta": tensor(2, 3, storage_offset={"as_int": 1})}, "needs 28 bytes"),
        ({"tensor_meta": tensor(2, 3, dtype=8)}, "needs 48 bytes"),
        ({"tensor_meta": tensor(2, 3, dtype=99)}, "of type 99, which is not known"),
        ({"tensor_meta": tensor(2, -3)}, "the size .-3."),
        ({"tensor_meta": tensor(2, 3, strides=[{"as_int": 1}])}, "numbers of sizes and strides"),
        ({"tensor_meta": tensor(2, 3, device={"type": "cuda"})}, "lies on 'cuda'"),
        ({"tensor_meta": None}, "describes no program"),
    ],
)
def test_weights_that_are_not_what_they_say(changes, reason):
    with pytest.raises(ValueError, match=reason):
        examine_program(archive(with_weight(**changes)))


def test_a_weight_without_elements_needs_no_bytes():
    meta = tensor(0, 3)
    examine_program(archive({**with_weight(tensor_meta=meta), "data/weights/weight_0": b""}))


def test_nothing_in_it_is_compressed():
    with pytest.raises(ValueError, match="compressed or encrypted"):
        examine_program(archive(method=zipfile.ZIP_DEFLATED))


def wide(content: bytes, *, moved: int = 0, size: int = 0, count: int = 0) -> bytes:
    """The same with the wide end of large archives, which says something else by so much."""
    end = struct.unpack("<4s4H2LH", content[-22:])
    place = len(content) - 22
    record = struct.pack(
        *("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, end[4], end[4] + count, end[5] + size, end[6])
    )
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, place + moved, 1)
    return content[:-22] + record + locator + content[-22:]


def test_the_archive_is_all_there_is():
    """Two readers could see two archives in the same bytes."""
    whole = archive()
    for content in (
        b"#!" + whole,
        whole + b"\n",
        whole + archive(),
        whole[:-22] + b"." + whole[-22:],
    ):
        with pytest.raises(ValueError, match="nothing that torch.export.save has written"):
            examine_program(content)
    examine_program(wide(whole))
    for differs in ({"moved": 1}, {"moved": -1}, {"size": 1}, {"count": 1}):
        with pytest.raises(ValueError, match="where its end says|two ends that differ"):
            examine_program(wide(whole, **differs))


@given(st.binary(max_size=300), st.integers(0, 3_000), st.integers(0, 255))
def test_bytes_of_whatever_kind_are_refused_or_read(noise, place, value):
    whole = bytearray(archive())
    whole[place % len(whole)] = value
    for content in (noise, bytes(whole), bytes(whole[:place])):
        try:
            examine_program(content)
        except ValueError as error:
            assert str(error)


@pytest.mark.parametrize(
    "text",
    [
        "s77",
        SYMBOL,
        "2*s0 + 1",
        "Max(1, FloorDiv(s0, 2))",
        "s0**2",
        "Eq(s0, 4)",
        "-s0/2",
        "Symbol('u0', integer=True) >= 0",
        "int_oo",
    ],
)
def test_arithmetic_of_symbols_is_a_size(text):
    check_expression(text)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "s0.__class__",
        "9**9**9",
        "(s0**9)**9",
        "2**s0",
        "1<<99999",
        "lambda: 1",
        "[1]",
        "exec('1')",
        "Symbol('a')",
        "Symbol('s1', positive=f())",
        "Symbol('s1', commutative=True)",
        "'s'",
        "f'{s0}'",
        "s0 if s0 else 1",
        "Max(*s0)",
        "Max(s0, key=s1)",
        "(" * 5_000,
        "-" * 5_000 + "1",
        "1+" * 6_000 + "1",
        "s0 +",
        7,
    ],
)
def test_anything_else_is_none(text):
    with pytest.raises(ValueError, match="as a size|characters"):
        check_expression(text)
