"""The repository's files: each of them any bytes, in a model that is good but for it."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from fuzz.figures import scratch
from fuzz.target import Feed, Target, require
from gearshift.access.book import read_book
from gearshift.app.settings import load_settings
from gearshift.artifacts import SamplesFile, checked_program, examine
from gearshift.artifacts.expressions import FUNCTIONS, check_expression
from gearshift.core.card import SCHEMA, Card, CascadeCard, DataSource, Measurement, Recipe
from gearshift.core.catalog import Catalog, Signature, TensorSpec
from gearshift.core.rights import ANONYMOUS
from gearshift.errors import ConfigurationInvalid, RepositoryInvalid
from gearshift.quotas.file import read as read_quotas
from gearshift.repository import load
from gearshift.repository.schema import LARGEST_BATCH, MOST_CLASSES, MOST_VARIANTS
from onnx_models import TWO_VARIANTS, tensor
from program_archive import SYMBOL, archive

SIGNATURE = Signature((TensorSpec("x", "FP32", (3,)),), (TensorSpec("y", "FP32", (4,)),))
FAKE = TWO_VARIANTS.replace('executor = "onnx"', 'executor = "fake"')
CASCADES = """
[[cascades]]
name = "both"
first = "small"
then = "large"
"""
STEPS = """
[[after]]
step = "labels"
of = "y"
output = "label"
labels = ["a", "b", "c", "d"]

[[after]]
step = "threshold"
of = "y"
output = "high"
at = 0.5
"""


def _loading(name: str, text: str = FAKE) -> Callable[[], Feed]:
    """Loads a repository in which the file `name` holds what is fed."""

    def make() -> Feed:
        root = scratch("repository")
        model = root / "m"
        for variant in ("large", "small", "both"):
            (model / variant).mkdir(parents=True)
        (model / "model.toml").write_text(text)
        path = model / name

        def feed(data: bytes) -> None:
            path.write_bytes(data)
            try:
                _sound(load(root, {"fake": lambda artifact: SIGNATURE}))
            except RepositoryInvalid as error:
                require(bool(error.problems), "invalid, and no reason is told")
                for problem in error.problems:
                    require(len(str(problem)) < 10_000, "a message as long as what it is about")

        return feed

    return make


def _sound(catalog: Catalog) -> None:
    for model in catalog.models.values():
        require(1 <= model.max_batch_size <= LARGEST_BATCH, "a batch out of bounds")
        require(1 <= len(model.variants) <= MOST_VARIANTS, "too many variants")
        require(1 <= len(model.classes) <= MOST_CLASSES, "too many classes")
        require(model.default_class in model.classes, "the default class is not declared")
        require(len({v.version for v in model.variants}) == len(model.variants), "a number twice")
        for variant in model.variants:
            require(np.isfinite(variant.accuracy), "an accuracy is no number")
        for each in model.classes.values():
            require(each.budget > 0 and 0 < each.weight < np.inf, "a class that asks for nothing")


def _card(variant: str = "small") -> Card:
    measured = Measurement(metric="top1", value=0.7, n=100, low=0.1, high=0.99, method="bootstrap")
    return Card(
        schema=SCHEMA,
        model="m",
        variant=variant,
        artifact="",
        artifact_sha256="",
        artifact_bytes=0,
        parameters=10,
        accuracy=measured,
        further=(measured,),
        data=DataSource(
            name="d", source="s", licence="l", training_sha256="a", evaluation_sha256="b"
        ),
        recipe=Recipe(description="d", command="c", sha256="r", tools={"numpy": "2"}),
    )


def _cascade_card() -> CascadeCard:
    measured = _card().accuracy
    return CascadeCard(
        schema=1,
        model="m",
        cascade="both",
        first="small",
        then="large",
        first_sha256="",
        then_sha256="",
        threshold=0.5,
        escalated=0.2,
        accuracy=measured,
        difference=measured,
        costs=(),
        data="d",
        rows_sha256="r",
        command="c",
    )


def _onnx() -> Feed:
    """The look at a file before a parser sees it: refuses, or takes what stays within bounds."""

    def feed(data: bytes) -> None:
        try:
            parts = examine(data)
        except ValueError as error:
            require(0 < len(str(error)) < 1_000, "no sentence")
            return
        for part in parts:
            path = PurePosixPath(part.file)
            require(".." not in path.parts and not path.is_absolute(), part.file)
            require(0 <= part.offset < 10**18 and part.size >= 0, "bytes that are none")

    return feed


def _onnx_seeds() -> list[bytes]:
    weights = numpy_helper.from_array(np.ones(3, np.float32), "w")
    outside = onnx.TensorProto(name="e", data_type=1, dims=[3], data_location=1)
    outside.external_data.add(key="location", value="w.bin")
    outside.external_data.add(key="offset", value="8")
    branch = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["b"])], "b", [], [tensor("b", TensorProto.FLOAT, 1)]
    )
    nodes = [
        helper.make_node("Mul", ["x", "w"], ["h"]),
        helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch),
        helper.make_node("Trees", ["h"], ["z"], domain="ai.onnx.ml", values=[0.5] * 9, ids=[1] * 9),
    ]
    versions = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]
    function = helper.make_function(
        "f", "f0", ["x"], ["y"], [helper.make_node("Relu", ["x"], ["y"])], versions
    )
    graph = helper.make_graph(
        nodes,
        "g",
        [tensor("x", TensorProto.FLOAT, "n", 3)],
        [tensor("y", TensorProto.FLOAT, "n", 1)],
        [weights, outside, helper.make_tensor("t", TensorProto.STRING, [1], [b"a"])],
    )
    made = helper.make_model(graph, functions=[function])
    return [made.SerializeToString(), onnx.ModelProto().SerializeToString()]


def _program() -> Feed:
    def feed(data: bytes) -> None:
        try:
            checked = checked_program(data)
        except ValueError as error:
            require(0 < len(str(error)) < 10_000, "no reason, or one as long as the file")
            return
        require(len(checked.samples) < len(data), "more than there is")

    return feed


def _size() -> Feed:
    def feed(data: bytes) -> None:
        text = data.decode("latin-1")
        try:
            check_expression(text)
        except ValueError as error:
            require(bool(str(error)), "no reason")
            return
        tree = ast.parse(text, mode="eval")
        for node in ast.walk(tree):
            require(
                not isinstance(node, ast.Attribute | ast.Subscript | ast.Lambda | ast.JoinedStr),
                "more than arithmetic",
            )
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                require(called in {*FUNCTIONS, "Symbol"}, "another function")

    return feed


def _samples() -> Feed:
    path = scratch("samples.npz")

    def feed(data: bytes) -> None:
        path.write_bytes(data)
        try:
            with SamplesFile(path) as samples:
                for name in ("inputs", "labels", "weights"):
                    if name in samples:
                        shape, dtype = samples.header(name)
                        array = samples.array(name)
                        require(array.shape == shape and array.dtype == dtype, "another array")
                        require(not array.dtype.hasobject, "objects")
        except ValueError:
            return

    return feed


def _samples_seeds() -> list[bytes]:
    path = scratch("seed.npz")
    found = []
    for save in (np.savez, np.savez_compressed):
        save(path, inputs=np.zeros((2, 3), np.float32), labels=np.array([0, 1]))
        found.append(path.read_bytes())
    return found


def _settings() -> Feed:
    path = Path(scratch("gearshift.toml"))

    def feed(data: bytes) -> None:
        path.write_bytes(data)
        try:
            settings = load_settings(path)
        except ConfigurationInvalid as error:
            require(bool(str(error)), "no reason")
            return
        require(0 <= settings.grpc_port <= 65535 and settings.workers >= 1, "a port out of bounds")

    return feed


def _settings_seeds() -> list[bytes]:
    return [
        b'host = "127.0.0.1"\ngrpc_port = 0\nworkers = 2\nproviders = ["X"]\n',
        b'repository = "r"\nshared_memory = true\ntrace_ratio = 0.5\nlog_level = "info"\n',
        b'state_dir = "/tmp/s"\ndrain_seconds = 1e3\nfeedback_url = ""\nmax_run_bytes = 0x10\n',
    ]


def _quotas() -> Feed:
    path = Path(scratch("quotas.toml"))

    def feed(data: bytes) -> None:
        path.write_bytes(data)
        try:
            read_quotas(path)
        except ConfigurationInvalid as error:
            require(bool(str(error)), "no reason")

    return feed


def _quota_seeds() -> list[bytes]:
    return [
        b'identity = "x-tenant"\n[default]\nrows_per_second = 500\nburst = 1000\n',
        b"[clients.a]\nrows_per_second = 5e3\n[models.m.classes.c]\nrows_per_second = 8\n",
    ]


HASH = "ab" * 32
"""Stands for a secret: no message may show it."""


def _access() -> Feed:
    path = Path(scratch("access.toml"))

    def feed(data: bytes) -> None:
        path.write_bytes(data)
        try:
            book = read_book(path)
        except ConfigurationInvalid as error:
            require(bool(str(error)), "no reason")
            require(HASH not in str(error), "a message shows what may be a secret")
            return
        require(HASH not in repr(book), "a book shows what may be a secret")
        everybody = (*book.tokens.values(), *book.certificates.values(), *book.subjects.values())
        require(bool(everybody), "an access file lets nobody in, and nobody is told")
        require(not book.subjects or book.jwt is not None, "subjects without whom to believe")
        for rights in everybody:
            require(rights.client != ANONYMOUS, "a client is called as who has proved nothing")

    return feed


def _access_seeds() -> list[bytes]:
    client = '[[clients]]\nname = "a"\nmay = ["infer", "observe"]\nmodels = ["fraud", "tumour-*"]\n'
    jwt = '[jwt]\nissuer = "i"\naudience = "g"\nalgorithms = ["RS256"]\njwks_file = "k.json"\n'
    return [
        f'{client}tokens_sha256 = ["{HASH}"]\n'.encode(),
        f'{client}subjects = ["s"]\ncertificates = ["c"]\n{jwt}'.encode(),
    ]


def _json(card: Card | CascadeCard) -> list[bytes]:
    text = card.to_json()
    return [text.encode(), json.dumps(json.loads(text)).encode()]


TARGETS = (
    Target("onnx-file", _onnx, _onnx_seeds, 2048, (b"location", b"../w", b"EPContext")),
    Target(
        "program-file",
        _program,
        lambda: [archive(), archive({"data/weights/weight_0": None})],
        4096,
        (b"PK\x05\x06", b"PK\x06\x06", b"torch.ops.aten.add.Tensor", b'"use_pickle": true'),
    ),
    Target(
        "program-size",
        _size,
        lambda: [SYMBOL.encode(), b"Max(1, FloorDiv(s0, 2))", b"s0**2 >= 4"],
        256,
        (b"Symbol(", b"integer=True", b"FloorDiv", b"int_oo", b"**", b"__"),
    ),
    Target("samples-file", _samples, _samples_seeds, 2048, (b"PK\x05\x06", b"'|O'", b"-1,")),
    Target(
        "model-toml",
        _loading("model.toml"),
        lambda: [FAKE.encode(), (FAKE + CASCADES).encode(), (FAKE + STEPS).encode()],
        2048,
        (
            b"[[variants]]",
            b"[[before]]",
            b'step = "image"',
            b"canary = 0.1",
            b"nan",
            b"1e400",
            b"a.b.c.d",
            b"9" * 40,
        ),
    ),
    Target(
        "card-json",
        _loading("small/card.json", FAKE.replace("accuracy = 0.8", "")),
        lambda: _json(_card()),
        2048,
        (b"NaN", b"1e999", b"[" * 30, b'"n": ' + b"9" * 40),
    ),
    Target(
        "cascade-json",
        _loading("both/cascade.json", FAKE + CASCADES),
        lambda: _json(_cascade_card()),
        2048,
        (b"NaN", b"1e999", b"[" * 30),
    ),
    Target("quotas-file", _quotas, _quota_seeds, 512, (b"[a]", b"inf", b"= {}")),
    Target("access-file", _access, _access_seeds, 512, (b"[[clients]]", b"control", b"jwks_url")),
    Target("settings-file", _settings, _settings_seeds, 512, (b"[a]", b"inf", b"= {}")),
)
