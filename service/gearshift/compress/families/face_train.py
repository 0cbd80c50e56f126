"""Smaller face networks without labels: channels removed, the rest fitted and then distilled.

The teacher is the network itself. What a picture's embedding should be is always known, also
for a picture that was cropped, turned, darkened or mixed, so a few hundred photographs go a
long way; who is on them is never asked.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from gearshift.compress.families.face_net import Block, MobileFaceNet, scaled
from gearshift.compress.learning import LossError

Report = Callable[[str], None]

PROBES = 4
"""Random directions of the embedding in which its change is measured, per face."""
LEAST_SHARE = 0.25
"""No layer loses more than three quarters of its channels: an emptied block is no block."""
MULTIPLE = 8
"""Whole vectors of eight channels are what the processor computes with anyway."""
BATCH = 20


@dataclass(frozen=True, slots=True)
class Inner:
    """Channels that only these layers know: made by `makers`, one number each in `slopes`.

    `reader` is the only convolution that mixes them.
    """

    makers: tuple[nn.Conv2d, ...]
    slopes: tuple[nn.PReLU, ...]
    reader: nn.Conv2d

    @property
    def size(self) -> int:
        return int(self.reader.in_channels)

    @property
    def cost(self) -> float:
        """Parameters of one channel."""
        made = sum(maker.weight[0].numel() + 1 for maker in self.makers)
        return float(made + len(self.slopes) + self.reader.out_channels)


def inner_channels(net: MobileFaceNet) -> list[Inner]:
    """Every group of channels that can shrink without touching another layer."""
    groups = []
    for block in net.blocks:
        assert isinstance(block, Block)
        makers, slopes = (block.expand, block.depthwise), (block.expanded, block.filtered)
        groups.append(Inner(makers, slopes, block.project))
    reader = net.mix if isinstance(net.mix, nn.Conv2d) else net.embed
    return [*groups, Inner((net.head, net.pool), (net.headed,), reader)]


@torch.no_grad()
def merge_last(net: MobileFaceNet) -> None:
    """Replace the two last layers, between which nothing happens, by their product, in place."""
    if isinstance(net.mix, nn.Conv2d):
        assert net.mix.bias is not None
        assert net.embed.bias is not None
        outer, inner = (conv.weight[:, :, 0, 0].double() for conv in (net.embed, net.mix))
        net.embed.bias += (outer @ net.mix.bias.double()).float()
        net.embed.weight.copy_((outer @ inner).float()[:, :, None, None])
        net.mix = nn.Identity()


def importance(net: MobileFaceNet, faces: Tensor, *, seed: int = 0) -> list[Tensor]:
    """How much the embedding moves without each inner channel, to first order: one [c] a group.

    The loss of a network that is its own teacher has no gradient, so what is expanded (Taylor:
    Molchanov et al., 2019) is the embedding itself: the square of its change along random
    directions, averaged over directions and faces uint8 [n, 112, 112, 3].
    """
    generator = torch.Generator().manual_seed(seed)
    groups = inner_channels(net)
    scores = [torch.zeros(group.size) for group in groups]
    held: dict[int, Tensor] = {}

    def hold(index: int) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(_: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            held[index] = arguments[0]

        return hook

    hooks = [g.reader.register_forward_pre_hook(hold(i)) for i, g in enumerate(groups)]
    for batch in faces.split(BATCH):
        embeddings = functional.normalize(net.raw(scaled(batch)))
        for probe in range(PROBES):
            direction = torch.randn(embeddings.shape, generator=generator)
            gradients = torch.autograd.grad(
                (embeddings * direction).sum(),
                [held[index] for index in range(len(groups))],
                retain_graph=probe + 1 < PROBES,
            )
            for index, gradient in enumerate(gradients):
                change = (gradient * held[index]).sum(dim=(2, 3)).square().sum(dim=0)
                scores[index] += change.detach() / (PROBES * len(faces))
    for hook in hooks:
        hook.remove()
    return scores


def kept_channels(groups: list[Inner], scores: list[Tensor], share: float) -> list[Tensor]:
    """Which channels stay when `share` of the groups' parameters go: sorted indices a group.

    Channels go in the order of importance for each parameter that they cost, over all groups.
    """
    ranked = sorted(
        (float(score) / group.cost, index, channel)
        for index, (group, each) in enumerate(zip(groups, scores, strict=True))
        for channel, score in enumerate(each)
    )
    budget = share * sum(group.cost * group.size for group in groups)
    left = [set(range(group.size)) for group in groups]
    for _, index, channel in ranked:
        if budget <= 0:
            break
        if len(left[index]) > LEAST_SHARE * groups[index].size:
            left[index].remove(channel)
            budget -= groups[index].cost
    kept = []
    for each, remaining in zip(scores, left, strict=True):
        count = min(len(each), MULTIPLE * math.ceil(len(remaining) / MULTIPLE))
        kept.append(each.topk(count).indices.sort().values)
    return kept


@torch.no_grad()
def remove_channels(net: MobileFaceNet, kept: list[Tensor]) -> None:
    """Keep only these inner channels, in place."""
    for group, channels in zip(inner_channels(net), kept, strict=True):
        for maker in group.makers:
            assert maker.bias is not None
            maker.weight = nn.Parameter(maker.weight[channels].clone())
            maker.bias = nn.Parameter(maker.bias[channels].clone())
            maker.out_channels = len(channels)
            if maker.groups > 1:
                maker.groups = maker.in_channels = len(channels)
        for slope in group.slopes:
            slope.weight = nn.Parameter(slope.weight[channels].clone())
            slope.num_parameters = len(channels)
        group.reader.weight = nn.Parameter(group.reader.weight[:, channels].clone())
        group.reader.in_channels = len(channels)


@torch.no_grad()
def refit(net: MobileFaceNet, teacher: MobileFaceNet, faces: Tensor, *, ridge: float) -> None:
    """Fit every reader of inner channels to the teacher's answers, first to last, in place.

    A least-squares problem a layer: what the removed channels said is said by the kept ones as
    far as they can (He et al., 2017). `ridge` is the pull to the old weights, as a share of the
    mean energy of an input.
    """
    pairs = zip(inner_channels(net), inner_channels(teacher), strict=True)
    for group, original in pairs:
        size, out = group.size, group.reader.out_channels
        gram = torch.zeros(size + 1, size + 1, dtype=torch.float64)
        target = torch.zeros(out, size + 1, dtype=torch.float64)
        rows = 0
        for batch in faces.split(BATCH):
            z = _input_of(net, group.reader, batch)
            wanted = original.reader(_input_of(teacher, original.reader, batch))
            flat = z.permute(0, 2, 3, 1).reshape(-1, size).double()
            flat = torch.cat([flat, torch.ones(len(flat), 1, dtype=torch.float64)], dim=1)
            gram += flat.T @ flat
            target += wanted.permute(0, 2, 3, 1).reshape(-1, out).double().T @ flat
            rows += len(flat)
        assert group.reader.bias is not None
        old = torch.cat([group.reader.weight[:, :, 0, 0], group.reader.bias[:, None]], dim=1)
        # Fewer rows than inputs need a stronger pull; the constant is not pulled at all.
        pull = (ridge + size / rows) * gram.diagonal()[:-1].mean()
        diagonal = torch.cat([pull.expand(size), torch.zeros(1, dtype=torch.float64)])
        solved = torch.linalg.solve(
            gram + torch.diag(diagonal), (target + old.double() * diagonal).T
        ).T.float()
        group.reader.weight.copy_(solved[:, :-1, None, None])
        group.reader.bias.copy_(solved[:, -1])


class _Reached(Exception):
    """The forward pass has gone as far as it is needed."""


def _input_of(net: MobileFaceNet, layer: nn.Module, faces: Tensor) -> Tensor:
    found: list[Tensor] = []

    def hook(_: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        found.append(arguments[0])
        raise _Reached

    handle = layer.register_forward_pre_hook(hook)
    try:
        net.raw(scaled(faces))
    except _Reached:
        pass
    finally:
        handle.remove()
    return found[0]


def pruned(
    teacher: MobileFaceNet, faces: Tensor, share: float, report: Report, *, ridge: float = 1e-3
) -> MobileFaceNet:
    """A copy without `share` of the inner channels' parameters, fitted layer by layer.

    `faces` are unlabelled, uint8 [n, 112, 112, 3]; nothing is trained by gradient here.
    """
    net: MobileFaceNet = copy.deepcopy(teacher).eval()
    merge_last(net)
    exact = copy.deepcopy(net)
    groups = inner_channels(net)
    kept = kept_channels(groups, importance(net, faces), share)
    remove_channels(net, kept)
    refit(net, exact, faces, ridge=ridge)
    report(f"face: {count(teacher):,} parameters pruned to {count(net):,}")
    return net


def count(net: nn.Module) -> int:
    """The number of learned parameters."""
    return sum(parameter.numel() for parameter in net.parameters())


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How long and how strongly to distil: Adam, one cycle with a cosine to zero."""

    steps: int
    peak_rate: float = 1e-3
    batch: int = 16
    warmup: float = 0.1
    relational: float = 1.0
    """Weight of the loss that compares the cosines between the faces of a batch."""
    decay: float = 0.998
    """Of the running mean of the weights, which is what is returned."""


def augment(faces: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror, turn, scale, shift, relight, blur, cover and mix: uint8 in, float 0..255 out."""
    n = len(faces)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator) * (high - low) + low

    images = faces.permute(0, 3, 1, 2).float()
    angle, scale = uniform(-0.25, 0.25, n), uniform(0.85, 1.2, n)
    mirror = torch.where(uniform(0, 1, n) < 0.5, -1.0, 1.0)
    cosine, sine = torch.cos(angle) / scale, torch.sin(angle) / scale
    shift = uniform(-0.12, 0.12, n, 2)
    rows = torch.stack(
        [
            torch.stack([cosine * mirror, -sine, shift[:, 0]], dim=1),
            torch.stack([sine * mirror, cosine, shift[:, 1]], dim=1),
        ],
        dim=1,
    )
    grid = functional.affine_grid(rows, list(images.shape), align_corners=False)
    images = functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
    other = images[torch.randperm(n, generator=generator)]
    # A third becomes a blend of two faces, a third shows a part of another face.
    kind, blend = uniform(0, 1, n, 1, 1, 1), uniform(0.2, 0.8, n, 1, 1, 1)
    images = torch.where(kind < 0.33, blend * images + (1 - blend) * other, images)
    along = torch.arange(images.shape[-1])
    corner, side = uniform(-20, 100, 2, n, 1), uniform(15, 60, 2, n, 1)
    inside = (along >= corner) & (along < corner + side)
    hole = (inside[0][:, :, None] & inside[1][:, None, :])[:, None]
    images = torch.where(hole & (kind > 0.66), other, images)
    gain, offset = uniform(0.6, 1.4, n, 1, 1, 1), uniform(-40, 40, n, 1, 1, 1)
    images = (images - 110) * gain + 110 + offset
    noise = torch.randn(images.shape, generator=generator) * uniform(0, 8, n, 1, 1, 1)
    return (images + noise).clamp(0, 255).permute(0, 2, 3, 1)


def distil(
    net: MobileFaceNet,
    teacher: MobileFaceNet,
    faces: Tensor,
    schedule: Schedule,
    *,
    seed: int,
    report: Report,
) -> MobileFaceNet:
    """Train `net` in place towards the teacher's embeddings of augmented `faces`; return it.

    The loss is 1 - cosine to the teacher's embedding, and the mean squared difference between
    the cosines among a batch (Park et al., 2019: what counts is who is similar to whom).
    """
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(net.parameters(), lr=schedule.peak_rate)
    averaged = torch.optim.swa_utils.AveragedModel(
        net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(schedule.decay)
    )
    running = 0.0
    for step, rows in enumerate(_batches(len(faces), schedule, generator)):
        for group in optimizer.param_groups:
            group["lr"] = schedule.peak_rate * _cycle(schedule, step / schedule.steps)
        images = augment(faces[rows], generator)
        with torch.no_grad():
            wanted = teacher(images)
        found = net(images)
        loss = (1 - (wanted * found).sum(dim=1)).mean()
        among = (found @ found.T - wanted @ wanted.T).square().mean()
        loss = loss + schedule.relational * among
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        averaged.update_parameters(net)
        running += float(loss.detach())
        if step % 100 == 99:
            if not math.isfinite(running):
                raise LossError(f"the loss is {running} at step {step + 1}; lower peak_rate")
            report(f"  step {step + 1}/{schedule.steps} loss {running / 100:.4f}")
            running = 0.0
    net.load_state_dict(averaged.module.state_dict())
    net.eval()
    return net


def _cycle(schedule: Schedule, progress: float) -> float:
    if progress < schedule.warmup:
        return progress / schedule.warmup
    falling = (progress - schedule.warmup) / (1.0 - schedule.warmup)
    return 0.5 * (1.0 + math.cos(math.pi * falling))


def _batches(n: int, schedule: Schedule, generator: torch.Generator) -> Iterator[Tensor]:
    """`steps` batches, each epoch in a new order; the short end of an epoch is left out."""
    if n < schedule.batch:
        raise ValueError(f"{n} faces are fewer than a batch of {schedule.batch}")
    order, start = torch.randperm(n, generator=generator), 0
    for _ in range(schedule.steps):
        if start + schedule.batch > n:
            order, start = torch.randperm(n, generator=generator), 0
        yield order[start : start + schedule.batch]
        start += schedule.batch
