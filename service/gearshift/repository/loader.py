"""Loading a repository: all or nothing, every mistake of every model reported at once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType

from gearshift.artifacts import Allowance, External, complete, examine, examine_program, read
from gearshift.core.artifact import Artifact
from gearshift.core.card import Card
from gearshift.core.catalog import Catalog, Model, Signature, Standing, Variant
from gearshift.errors import Problem, RepositoryInvalid
from gearshift.repository.cards import contradictions, foreign_artifact, read_card
from gearshift.repository.cascades import CascadeLoader
from gearshift.repository.files import ABSENT, Root
from gearshift.repository.findings import Findings, shown
from gearshift.repository.folders import MODEL_FILE, model_folders
from gearshift.repository.intent import Intent, intent_of, read_intent
from gearshift.repository.samples import samples_complaint
from gearshift.repository.schema import CardFile, VariantEntry
from gearshift.repository.signatures import LARGEST_BATCH_BYTES, batch_bytes, differences
from gearshift.repository.steps import StepsLoader
from gearshift.repository.triton import CONFIG, document_of, is_triton

Inspect = Mapping[str, Callable[[Artifact], Signature]]

CARD_FILE = "card.json"
SAMPLES_FILE = "samples.npz"

ARTIFACTS: Mapping[str, str] = {
    "onnx": "model.onnx",
    "torch": "model.pt2",
    "triton": "remote.toml",
}
"""The file that each executor loads from the variant's folder. An executor beyond these that has an
inspect function is taken to have no file."""

EXAMINERS: Mapping[str, Callable[[bytes], Sequence[External]]] = {
    "onnx": examine,
    "torch": examine_program,
}
"""What looks at an artifact before the executor of that name does."""


def load(
    root: Path,
    inspect: Inspect,
    generation: int = 1,
    *,
    unlearned: bool = False,
    only: Collection[str] | None = None,
    allowance: Allowance | None = None,
    notes: list[Problem] | None = None,
) -> Catalog:
    """The catalog of everything under `root`, or of the folders `only`, whose artifacts keep to the
    `allowance`.

    `inspect` gives, by executor, the signature of an artifact, which has been read, examined and
    held against its card by then; an executor without a file is asked with the variant's folder.
    It raises ValueError with a sentence for an artifact that cannot be served. With `unlearned`,
    cascades are taken as declared, whatever was learned for them: none of their rows goes on.
    Raises RepositoryInvalid with every mistake found; files in it are relative to `root`. `notes`
    gets what was passed over in models of a Triton repository (`gearshift.repository.triton`).
    """
    findings = Findings()
    base = Root(root)
    models: dict[str, Model] = {}
    allowed = Allowance() if allowance is None else allowance
    for folder in model_folders(base, findings, only):
        loader = _ModelLoader(base, folder, inspect, findings, allowed, generation)
        model = loader.load(unlearned)
        if model is not None:
            models[model.name] = model
    if notes is not None:
        notes += findings.notes
    if findings.problems:
        raise RepositoryInvalid(findings.problems)
    return Catalog(generation, MappingProxyType(models))


class _ModelLoader:
    """Reads one model's folder; what it cannot use it writes into the findings."""

    def __init__(
        self,
        root: Root,
        folder: Path,
        inspect: Inspect,
        findings: Findings,
        allowance: Allowance,
        generation: int,
    ) -> None:
        self._generation = generation
        self._allowance = allowance
        self._signatures: list[tuple[VariantEntry, Signature]] = []
        self._root = root
        self._folder = folder
        self._inspect = inspect
        self._findings = findings
        self._file = root.relative(folder / MODEL_FILE)

    def load(self, unlearned: bool) -> Model | None:
        intent = self._intent()
        if intent is None:
            return None
        variants = {
            index: self._variant(index, entry, intent) for index, entry in intent.variants.items()
        }
        signature = self._signature()
        self._check_size(intent, signature)
        samples = self._samples(signature)
        steps = StepsLoader(self._root, self._folder, self._file, self._findings, self._allowance)
        before = steps.before(intent.before, signature)
        after = steps.after(
            intent.after, signature, intent.file.max_batch_size if intent.file else 1
        )
        known = [variant for variant in variants.values() if variant is not None]
        self._check_floors(intent, known)
        cascades = CascadeLoader(self._root, self._folder, self._file, self._findings)
        gears = cascades.load(intent, known, signature, unlearned=unlearned)
        if intent.file is None or signature is None or len(known) != len(intent.file.variants):
            return None
        return Model(
            name=self._folder.name,
            metric=intent.file.metric,
            max_batch_size=intent.file.max_batch_size,
            signature=signature,
            classes=MappingProxyType(
                {name: entry.service_class(name) for name, entry in intent.classes.items()}
            ),
            default_class=intent.file.default_class,
            variants=tuple(sorted(known, key=lambda v: (-v.accuracy, v.version))),
            cascades=gears,
            before=before,
            after=after,
            samples=samples,
            finite=intent.file.finite,
            generation=self._generation,
        )

    def _intent(self) -> Intent | None:
        """What people have decided of the model; None if that cannot be read."""
        path = self._folder / MODEL_FILE
        complaint = self._root.complaint(path)
        if complaint == ABSENT and is_triton(self._folder):
            self._file = self._root.relative(self._folder / CONFIG)
            document = document_of(self._root, self._folder, self._findings)
            return None if document is None else intent_of(document, self._file, self._findings)
        if complaint is not None:
            self._findings.add(
                self._file,
                "",
                f"{complaint}; every folder here is a model and needs one"
                " (begin the name of any other with a dot)",
            )
            return None
        return read_intent(self._root, path, self._findings)

    # --- one variant -------------------------------------------------------------------

    def _variant(self, index: int, entry: VariantEntry, intent: Intent) -> Variant | None:
        """The variant with its accuracy; None where a mistake leaves something unknown."""
        folder = self._folder / entry.name
        known_executor = self._check_executor(index, entry)
        path = self._artifact(entry)
        artifact: Artifact | None = None
        identity: tuple[str, int] | None = None
        if path is None:
            artifact, identity = Artifact(str(folder)), ("", 0)
        elif known_executor:
            artifact, identity = self._read(path, entry)
        card_path = folder / CARD_FILE
        complaint = self._root.complaint(card_path)
        if complaint == ABSENT:
            card = None
            accuracy = self._declared(index, entry, card_path)
        else:
            card = self._card(card_path, complaint, entry, intent, path, identity)
            self._check_undeclared(index, entry, card_path)
            accuracy = None if card is None else card.accuracy.value
        if not known_executor or artifact is None or identity is None:
            return None
        # What is not what was measured is not even looked at by a parser.
        if complaint == ABSENT or (card is not None and card.artifact_sha256 == identity[0]):
            self._inspected(entry, artifact)
        if accuracy is None:
            return None
        return Variant(
            name=entry.name,
            version=entry.version,
            executor=entry.executor,
            accuracy=accuracy,
            source="declared" if card is None else "measured",
            artifact=artifact.path,
            artifact_sha256=identity[0],
            artifact_bytes=identity[1],
            artifact_files=tuple(sorted(artifact.beside)),
            card=card,
            standing=Standing.SERVING if entry.canary is None else Standing.CANARY,
            share=entry.canary or 0.0,
        )

    def _artifact(self, entry: VariantEntry) -> Path | None:
        name = ARTIFACTS.get(entry.executor)
        return None if name is None else self._folder / entry.name / name

    def _check_executor(self, index: int, entry: VariantEntry) -> bool:
        known = sorted({*ARTIFACTS, *self._inspect})
        if entry.executor in self._inspect:
            return True
        if entry.executor in ARTIFACTS:
            here = ", ".join(repr(name) for name in sorted(self._inspect)) or "none"
            message = f"{entry.executor!r} is not installed here; there are: {here}"
        else:
            near = get_close_matches(entry.executor, known, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            names = ", ".join(repr(name) for name in known)
            message = f"unknown executor {shown(entry.executor)}; {hint}known: {names}"
        self._findings.add(self._file, f"variants[{index}].executor", message)
        return False

    def _read(
        self, path: Path, entry: VariantEntry
    ) -> tuple[Artifact | None, tuple[str, int] | None]:
        """The artifact, None if it must not be loaded; and its hash and size, None if it cannot
        be read."""
        file = self._root.relative(path)
        complaint = self._root.complaint(path)
        if complaint is not None:
            self._findings.add(file, "", f"{complaint}; the artifact belongs here")
            return None, None
        identity = None
        try:
            artifact = read(self._root.path, path, self._allowance)
            identity = artifact.sha256(), artifact.size
            examiner = EXAMINERS.get(entry.executor)
            if examiner is None:
                return artifact, identity
            whole = complete(artifact, self._allowance, examiner)
        except ValueError as error:
            self._findings.add(file, "", str(error))
            return None, identity
        return whole, (whole.sha256(), whole.size) if whole.beside else identity

    def _inspected(self, entry: VariantEntry, artifact: Artifact) -> None:
        """Let its executor say what it takes and gives."""
        try:
            signature = self._inspect[entry.executor](artifact)
        except ValueError as error:
            path = self._artifact(entry) or self._folder / entry.name
            self._findings.add(self._root.relative(path), "", f"cannot be served: {error}")
        else:
            self._signatures.append((entry, signature))

    def _card(
        self,
        path: Path,
        complaint: str | None,
        entry: VariantEntry,
        intent: Intent,
        artifact: Path | None,
        identity: tuple[str, int] | None,
    ) -> Card | None:
        file = self._root.relative(path)
        if complaint is not None:
            self._findings.add(file, "", complaint)
            return None
        held = read_card(self._root, path, self._findings, CardFile)
        if held is None:
            return None
        card = held.card
        mistakes = list(
            contradictions(card, model=self._folder.name, variant=entry.name, metric=intent.metric)
        )
        if identity is not None:
            name = "" if artifact is None else artifact.name
            mistakes += foreign_artifact(card, artifact=name, sha256=identity[0], size=identity[1])
        for key, message in mistakes:
            self._findings.add(file, key, message)
        return card

    def _declared(self, index: int, entry: VariantEntry, card: Path) -> float | None:
        if entry.accuracy is None:
            self._findings.add(
                self._file,
                f"variants[{index}].accuracy",
                f"unknown: there is no {self._root.relative(card)}; measure the variant, or"
                " declare its accuracy here",
            )
        return entry.accuracy

    def _check_undeclared(self, index: int, entry: VariantEntry, card: Path) -> None:
        """What is measured must not be declared as well: one of the two would be untrue."""
        if entry.accuracy is not None:
            self._findings.add(
                self._file,
                f"variants[{index}].accuracy",
                f"{entry.accuracy} is declared although {self._root.relative(card)} measures it;"
                " remove one of the two",
            )

    # --- the model as a whole ----------------------------------------------------------

    def _signature(self) -> Signature | None:
        """The signature that all variants share; each one that differs is reported.

        The first readable artifact sets the standard; None if there is none.
        """
        if not self._signatures:
            return None
        first, standard = self._signatures[0]
        for entry, signature in self._signatures[1:]:
            path = self._artifact(entry) or self._folder / entry.name
            for difference in differences(signature, standard, first.name):
                self._findings.add(self._root.relative(path), "", difference)
        return standard

    def _samples(self, signature: Signature | None) -> str | None:
        path = self._folder / SAMPLES_FILE
        file = self._root.relative(path)
        complaint = self._root.complaint(path)
        if complaint == ABSENT:
            return None
        if complaint is not None:
            self._findings.add(file, "", complaint)
            return None
        mistake = samples_complaint(path, signature)
        if mistake is not None:
            self._findings.add(file, *mistake)
            return None
        return str(path)

    def _check_size(self, intent: Intent, signature: Signature | None) -> None:
        """A batch that does not fit into memory would fail every run."""
        if intent.file is None or signature is None:
            return
        rows = intent.file.max_batch_size
        needed = batch_bytes(signature, rows)
        if needed > LARGEST_BATCH_BYTES:
            self._findings.add(
                self._file,
                "max_batch_size",
                f"{rows} rows take {needed} bytes of inputs and outputs; {LARGEST_BATCH_BYTES} are"
                f" the most, which {LARGEST_BATCH_BYTES * rows // needed} rows take",
            )

    def _check_floors(self, intent: Intent, known: list[Variant]) -> None:
        """A class whose floor no variant reaches would refuse every request."""
        if not known or len(known) != len(intent.variants):
            return  # the best one may be among those that could not be read
        best = max(known, key=lambda variant: variant.accuracy)
        for name, entry in intent.classes.items():
            if entry.min_accuracy is not None and entry.min_accuracy > best.accuracy:
                self._findings.add(
                    self._file,
                    f"classes.{name}.min_accuracy",
                    f"{entry.min_accuracy} is above the accuracy of every variant; the best is"
                    f" {best.name!r} with {best.accuracy:.4f}",
                )
