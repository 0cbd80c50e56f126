"""Nothing in the tree runs what it reads: no pickles, no shells, no code from text; and what is
installed is named by its hash."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("service", "loadtests", "deploy", "examples")

MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
"""Whatever they read may run code."""

CALLS = {"eval", "exec", "__import__", "compile"}
METHODS = {
    "os.system",
    "os.popen",
    "yaml.load",
    "yaml.full_load",
    "yaml.unsafe_load",
    "np.fromregex",
    "torch.hub.load",
    "xml.etree.ElementTree.parse",
}

ARCHIVES = re.compile(r"\.extractall$|(?i:tar|zip|archive|wheel)\w*(\(.*\))?\.extract$")
"""Of tar and zip files: names in them may lead anywhere. Members are read, not unpacked."""


WORTH_A_LOOK = re.compile(
    "|".join(
        (
            *(rf"\b{word}\b" for word in MODULES),
            *(rf"(?<![.\w]){word}\(" for word in CALLS),
            *(re.escape(name) for name in METHODS),
            *(r"\.extract", r"shell *=", "allow_pickle", r"torch\.load"),
        )
    )
)


def findings(source: str) -> Iterator[tuple[int, str]]:
    """Line and reason of everything that must not be."""
    if WORTH_A_LOOK.search(source) is None:
        return
    for node in ast.walk(ast.parse(source)):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Import):
            for name in node.names:
                if name.name.partition(".")[0] in MODULES:
                    yield line, f"imports {name.name}"
        elif isinstance(node, ast.ImportFrom):
            if (node.module or "").partition(".")[0] in MODULES:
                yield line, f"imports from {node.module}"
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            options = {word.arg: ast.unparse(word.value) for word in node.keywords}
            if called in CALLS or called in METHODS:
                yield line, f"calls {called}"
            if ARCHIVES.search(called):
                yield line, f"unpacks an archive: {called}"
            if options.get("shell") == "True":
                yield line, "runs a shell"
            if options.get("allow_pickle", "False") != "False":
                yield line, "lets numpy unpickle"
            if called == "torch.load" and options.get("weights_only") != "True":
                yield line, "lets torch unpickle"


def sources() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", *FOLDERS], cwd=ROOT, capture_output=True, check=True
    ).stdout.decode()
    return [ROOT / name for name in listed.split("\0") if name.endswith(".py")]


def test_nothing_runs_what_it_reads() -> None:
    read = sources()
    found = [
        f"{path.relative_to(ROOT)}:{line}: {why}"
        for path in read
        for line, why in findings(path.read_text(encoding="utf-8"))
    ]
    assert not found, "\n".join(found)
    assert len(read) > 300


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "x = eval(y)",
        "import yaml; yaml.load(f)",
        "subprocess.run('ls', shell=True)",
        "np.load(p, allow_pickle=True)",
        "torch.load(p)",
        "torch.load(p, weights_only=False)",
        "tar.extractall(p)",
        "zipfile.ZipFile(p).extract('x')",
        "os.system('ls')",
    ],
)
def test_each_of_these_would_be_found(source: str) -> None:
    assert list(findings(source))


LOCKS = (
    "requirements.lock",
    "deploy/requirements.lock",
    "deploy/checkov.lock",
    "deploy/buf.lock",
    "deploy/kserve.lock",
    "deploy/schemas.lock",
    "deploy/container/audit.lock",
    "tests/fuzz/atheris.lock",
    "loadtests/openvino.lock",
    "deploy/container/build.lock",
    "deploy/container/python-cpu.lock",
    "deploy/container/python-gpu.lock",
)
WITHOUT = ("requirements-compress.lock", "requirements-torch.lock")
"""They have no hashes, which SECURITY.md argues: torch is another wheel on each platform."""


@pytest.mark.parametrize("name", LOCKS)
def test_every_package_of_a_lock_file_is_named_by_hash(name: str) -> None:
    entries = re.split(r"\n(?=[A-Za-z0-9])", (ROOT / name).read_text(encoding="utf-8"))
    packages = [entry for entry in entries if re.match(r"[A-Za-z0-9_.\-\[\]]+ *(==|@)", entry)]
    assert packages
    bare = [entry.splitlines()[0] for entry in packages if "--hash=sha256:" not in entry]
    assert not bare


def test_lock_files_without_hashes_are_those_that_are_known() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "*.lock"], cwd=ROOT, capture_output=True, check=True, text=True
    ).stdout.split()
    bare = {name for name in listed if "sha256" not in (ROOT / name).read_text(encoding="utf-8")}
    # The latter has its hashes in a column, without a word before them.
    assert bare == {*WITHOUT, "deploy/container/debian.lock"}


def test_every_installation_of_the_makefiles_wants_hashes() -> None:
    """But for the project itself, and what is named in a lock file without hashes."""
    for name in ("Makefile", "deploy/tools.mk", "deploy/container/container.mk"):
        for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
            if "$(PIP)" in line and " -r " in line:
                assert "--require-hashes" in line or any(name in line for name in WITHOUT), line
