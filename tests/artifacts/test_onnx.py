"""What is refused before ONNX Runtime sees it, and what is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from gearshift.artifacts import External, examine
from gearshift.artifacts import onnx as module
from onnx_models import tensor

REPOSITORY = Path(__file__).parents[2] / "model_repo"
DIMENSIONS = ("n", 3)


def model(nodes=None, initializers=(), functions=(), **options) -> onnx.ModelProto:
    nodes = nodes or [helper.make_node("Identity", ["x"], ["y"])]
    graph = helper.make_graph(
        nodes,
        "g",
        [tensor("x", TensorProto.FLOAT, *DIMENSIONS)],
        [tensor("y", TensorProto.FLOAT, *DIMENSIONS)],
        list(initializers),
    )
    return helper.make_model(graph, functions=list(functions), **options)


def weights(name: str = "w", count: int = 12) -> onnx.TensorProto:
    return numpy_helper.from_array(np.ones(count, np.float32), name)


def outside(**where: object) -> onnx.TensorProto:
    held = onnx.TensorProto(name="w", data_type=TensorProto.FLOAT, dims=(4,))
    held.data_location = TensorProto.EXTERNAL
    for key, value in where.items():
        held.external_data.add(key=key, value=str(value))
    return held


def refusal(made: onnx.ModelProto | bytes) -> str:
    content = made if isinstance(made, bytes) else made.SerializeToString()
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - what it says is looked at
        examine(content)
    return str(caught.value)


@pytest.mark.parametrize("path", sorted(REPOSITORY.glob("*/*/model.onnx")), ids=str)
def test_the_shipped_models_pass(path: Path) -> None:
    assert examine(path.read_bytes()) == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "holds no graph"),
        (b"not a model", "is no ONNX file"),
        (b"\x3a\xff\xff\xff\xff\x7f", "cut short"),
        (b"\x3b", "a kind that nobody writes"),
        (b"\xff" * 20, "cut short"),
        (b"\x00\x01", "number 0"),
    ],
)
def test_what_is_no_onnx_file(content: bytes, said: str) -> None:
    assert said in refusal(content)


def test_a_model_cut_anywhere_is_refused_or_sound() -> None:
    content = model(initializers=[weights()]).SerializeToString()
    for end in range(len(content)):
        try:
            examine(content[:end])
        except ValueError:
            continue


@pytest.mark.parametrize("domain", ["my.ops", "ai.onnx.contrib", "ai.onnx.preview.training"])
def test_operators_of_unknown_domains(domain: str) -> None:
    node = helper.make_node("Op", ["x"], ["y"], domain=domain)
    assert f"the domain {domain!r}" in refusal(model([node]))


@pytest.mark.parametrize("kind", ["EPContext", "PythonOp"])
def test_operators_that_run_something_else(kind: str) -> None:
    node = helper.make_node(kind, ["x"], ["y"], domain="com.microsoft")
    assert f"the operator {kind!r}" in refusal(model([node]))


def test_an_unknown_operator_deep_inside_is_seen() -> None:
    inner = helper.make_node("Op", ["x"], ["y"], domain="my.ops")
    branch = helper.make_graph([inner], "b", [], [tensor("y", TensorProto.FLOAT, 1)])
    node = helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch)
    assert "my.ops" in refusal(model([node]))


def test_the_models_own_functions_may_be_called_and_are_looked_into() -> None:
    body = helper.make_node("Relu", ["x"], ["y"])
    call = helper.make_node("f", ["x"], ["y"], domain="mine")
    versions = [helper.make_opsetid("", 17)]
    function = helper.make_function("mine", "f", ["x"], ["y"], [body], versions)
    assert examine(model([call], functions=[function]).SerializeToString()) == []
    bad = helper.make_node("Op", ["x"], ["y"], domain="other")
    function = helper.make_function("mine", "f", ["x"], ["y"], [bad], versions)
    assert "'other'" in refusal(model([call], functions=[function]))


def doubling(depth: int) -> list[onnx.FunctionProto]:
    """Functions of which each calls the next one twice."""
    versions = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]
    made = []
    for level in range(depth):
        last = level == depth - 1
        kind, domain = ("Relu", "") if last else (f"f{level + 1}", "f")
        nodes = [
            helper.make_node(kind, [a], [b], domain=domain) for a, b in (("x", "t"), ("t", "y"))
        ]
        made.append(helper.make_function("f", f"f{level}", ["x"], ["y"], nodes, versions))
    return made


def test_functions_that_double_are_counted_not_written_out() -> None:
    call = helper.make_node("f0", ["x"], ["y"], domain="f")
    assert examine(model([call], functions=doubling(10)).SerializeToString()) == []
    assert "with its functions written out" in refusal(model([call], functions=doubling(60)))


def test_functions_in_a_circle() -> None:
    call = helper.make_node("f0", ["x"], ["y"], domain="f")
    functions = doubling(3)
    functions[2].node[0].op_type, functions[2].node[0].domain = "f0", "f"
    assert "calls itself" in refusal(model([call], functions=functions))


def nested(depth: int) -> onnx.NodeProto:
    node = helper.make_node("Identity", ["x"], ["y"])
    for _ in range(depth):
        graph = helper.make_graph([node], "g", [], [tensor("y", TensorProto.FLOAT, 1)])
        node = helper.make_node("If", ["x"], ["y"], then_branch=graph, else_branch=graph)
    return node


def test_graphs_within_graphs() -> None:
    assert examine(model([nested(3)]).SerializeToString()) == []
    deep = onnx.GraphProto()
    place = deep
    for _ in range(module.DEEPEST + 2):
        attribute = place.node.add(op_type="If").attribute.add(name="then_branch")
        place = attribute.g
    made = model()
    made.graph.node.extend(deep.node)
    assert "more than 16 deep" in refusal(made)


def test_too_many_of_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [helper.make_node("Identity", ["x"], ["y"])] * 5
    made = model(nodes, [weights(str(number)) for number in range(5)])
    for name, said in (
        ("MOST_NODES", "more than 3 nodes"),
        ("MOST_TENSORS", "more than 3 tensors"),
        ("MOST_FIELDS", "more than 3 fields"),
    ):
        with monkeypatch.context() as limited:
            limited.setattr(module, name, 3)
            assert said in refusal(made)


def test_long_lists_of_numbers_are_no_fields_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """A forest of trees is one node with millions of numbers, written one by one."""
    node = helper.make_node(
        "TreeEnsembleRegressor",
        ["x"],
        ["y"],
        domain="ai.onnx.ml",
        nodes_values=[0.5] * 5_000,
        nodes_nodeids=list(range(5_000)),
        nodes_modes=["BRANCH_LEQ"] * 5_000,
    )
    monkeypatch.setattr(module, "MOST_FIELDS", 1_000)
    assert examine(model([node]).SerializeToString()) == []


@pytest.mark.parametrize(
    "spoil",
    [
        lambda t: t.dims.__setitem__(0, 10**6),
        lambda t: t.dims.append(2),
        lambda t: t.dims.__setitem__(0, -1),
        lambda t: setattr(t, "raw_data", b"123"),
        lambda t: setattr(t, "data_type", 11),
        lambda t: setattr(t, "data_type", 99),
        lambda t: t.segment.__setattr__("begin", 1),
        lambda t: t.dims.extend([1] * 40),
    ],
)
def test_a_tensor_that_does_not_hold_what_it_says(spoil) -> None:
    held = weights()
    spoil(held)
    assert "tensor" in refusal(model(initializers=[held]))


KINDS = [
    kind
    for name, kind in TensorProto.DataType.items()
    if name not in ("UNDEFINED", "STRING") and not name.startswith(("FLOAT8", "FLOAT6", "FLOAT4"))
]


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_sound_tensors_of_every_type_pass(kind: int, raw: bool) -> None:
    if raw:
        bits = module._BITS[kind]
        held = helper.make_tensor("w", kind, [16], bytes(2 * bits), raw=True)
    else:
        held = helper.make_tensor("w", kind, [16], [1] * 16)
    assert examine(model(initializers=[held]).SerializeToString()) == []


def test_texts_pass() -> None:
    held = helper.make_tensor("w", TensorProto.STRING, [2], [b"a", b"bc"])
    assert examine(model(initializers=[held]).SerializeToString()) == []
    held.dims[0] = 3
    assert "does not hold" in refusal(model(initializers=[held]))


def test_a_sparse_tensor_that_is_large_once_written_out() -> None:
    made = model()
    values = numpy_helper.from_array(np.ones(1, np.float32), "s")
    indices = numpy_helper.from_array(np.zeros(1, np.int64), "i")
    made.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [2**20]))
    assert examine(made.SerializeToString()) == []
    made.graph.sparse_initializer[0].dims.append(2**20)
    assert "too large" in refusal(made)


def test_weights_in_files_beside_are_told() -> None:
    made = model(initializers=[outside(location="w.bin", offset=8, length=16)])
    assert examine(made.SerializeToString()) == [External("w.bin", 8, 16, "w")]
    with pytest.raises(ValueError, match=r"bytes 8 to 24 of 'w.bin', which has 23"):
        External("w.bin", 8, 16, "w").check(23)


@pytest.mark.parametrize(
    "location",
    [
        *("", ".", "..", "../w.bin", "/etc/passwd", "a/../../w", "a//b", "a/", ".hidden", "a/.b"),
        *("*/_ORT_MEM_ADDR_/*", "a\\b", "C:\\w", "w\0", "w\n", "é", "w" * 300, "~/w"),
    ],
)
def test_places_that_are_none_for_weights(location: str) -> None:
    made = model(initializers=[outside(location=location)])
    assert "expected the name of a file in the folder" in refusal(made)


@pytest.mark.parametrize(
    "where",
    [
        {"length": 15},
        {"length": -1},
        {"offset": -8},
        {"offset": "0x10"},
        {"offset": 10**30},
        {"length": "²"},
    ],
)
def test_bytes_that_are_none(where: dict) -> None:
    assert "tensor 'w'" in refusal(model(initializers=[outside(location="w", **where)]))


def test_only_weights_of_the_main_graph_lie_outside() -> None:
    node = helper.make_node("Constant", [], ["c"], value=outside(location="w.bin"))
    assert "only weights of the main graph" in refusal(model([node]))


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_or_taken(data: bytes) -> None:
    try:
        examine(data)
    except ValueError as error:
        assert str(error)
