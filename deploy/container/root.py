"""The image's root file system from Debian packages: downloaded, checked by hash, unpacked.

Runs in the build stage. apt checks the signatures of what it downloads, and debian.lock says
which bytes they must be. No script of a package runs, so that a root file system for another
architecture is made as easily as one for this machine.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

USER = 10001
NOT_NEEDED = (
    # For people at a terminal; the licences in usr/share/doc/*/copyright stay.
    "usr/share/man",
    "usr/share/info",
    "usr/share/locale",
    "usr/share/lintian",
    "usr/share/bug",
    "usr/share/applications",
    "usr/share/pixmaps",
    "usr/share/binfmts",
    "usr/lib/valgrind",
    # Shell scripts, and no shell.
    "usr/sbin/update-ca-certificates",
    # Of Python: what needs a terminal or libraries that are not here.
    "usr/lib/python3.13/idlelib",
    "usr/lib/python3.13/pydoc_data",
    "usr/lib/python3.13/turtle.py",
    "usr/lib/python3.13/lib-dynload/_curses*",
    "usr/lib/python3.13/lib-dynload/_dbm*",
    "usr/lib/python3.13/lib-dynload/readline*",
)


class Package(NamedTuple):
    """One line of debian.lock."""

    name: str
    version: str
    architecture: str
    sha256: str


def locked(text: str, architecture: str) -> list[Package]:
    """The packages for an architecture: base-files first, whose links the others unpack into."""
    packages = [Package(*line.split()) for line in text.splitlines()]
    fitting = [each for each in packages if each.architecture in (architecture, "all")]
    return sorted(fitting, key=lambda each: (each.name != "base-files", each.name))


def download(packages: list[Package], architecture: str, folder: Path) -> Iterator[Path]:
    """The files of the packages, in order. RuntimeError where one is gone or is another."""
    subprocess.run(["dpkg", "--add-architecture", architecture], check=True)
    subprocess.run(["apt-get", "update", "-qq"], check=True)
    for package in packages:
        place = folder / package.name
        place.mkdir(parents=True)
        name = f"{package.name}={package.version}"
        if package.architecture != "all":
            name = f"{package.name}:{architecture}={package.version}"
        done = subprocess.run(
            ["apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", name],
            cwd=place,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(
                f"debian.lock names {name}, which the mirror does not have: it may have been"
                " replaced by a fixed one. `make image-lock` takes the newest; or let the builder"
                " image use Debian's snapshot archive of that day"
            )
        (file,) = place.iterdir()
        found = hashlib.sha256(file.read_bytes()).hexdigest()
        if found != package.sha256:
            raise RuntimeError(f"{file.name} has the SHA-256 {found}, not {package.sha256}")
        yield file


def unpack(file: Path, name: str, root: Path) -> None:
    """Put the package's files in place, and say so where scanners look for it."""
    subprocess.run(["dpkg-deb", "-x", file, root], check=True)
    told = root / "var/lib/dpkg/status.d"
    told.mkdir(parents=True, exist_ok=True)
    with (told / name).open("wb") as status:
        subprocess.run(["dpkg-deb", "-f", file], check=True, stdout=status)


def furnish(root: Path) -> None:
    """What the scripts of the packages would have made, the user and the two folders."""
    bundle = root / "etc/ssl/certs/ca-certificates.crt"
    bundle.parent.mkdir(parents=True, exist_ok=True)
    authorities = sorted((root / "usr/share/ca-certificates/mozilla").glob("*.crt"))
    bundle.write_bytes(b"".join(each.read_bytes() for each in authorities))
    # Where OpenSSL looks, which on Debian is a link of its package of programs.
    found_at = root / "usr/lib/ssl/cert.pem"
    found_at.parent.mkdir(parents=True, exist_ok=True)
    found_at.unlink(missing_ok=True)
    found_at.symlink_to("/etc/ssl/certs/ca-certificates.crt")
    (root / "etc/passwd").write_text(
        "root:x:0:0:root:/root:/usr/sbin/nologin\n"
        f"gearshift:x:{USER}:{USER}:gearshift:/state:/usr/sbin/nologin\n"
    )
    (root / "etc/group").write_text(f"root:x:0:\ngearshift:x:{USER}:\n")
    (root / "etc/nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: files dns\n")
    (root / "usr/bin/python3").symlink_to("python3.13")
    (root / "models").mkdir(exist_ok=True)
    state = root / "state"
    state.mkdir()
    # For everybody, like /tmp: a platform may choose the user, and a tmpfs takes the mode over.
    state.chmod(0o1777)


def prune(root: Path) -> None:
    """Take away what serving does not need."""
    for pattern in NOT_NEEDED:
        for found in root.glob(pattern):
            shutil.rmtree(found) if found.is_dir() else found.unlink()
    for found in (root / "usr/share/doc").rglob("*"):
        if found.is_file() and found.name != "copyright":
            found.unlink()


def main(lock: Path, architecture: str, root: Path) -> None:
    """Make `root` for one architecture, as Debian names it."""
    packages = locked(lock.read_text(), architecture)
    root.mkdir(parents=True)
    downloads = Path("/tmp/debian")
    for package, file in zip(packages, download(packages, architecture, downloads), strict=True):
        unpack(file, package.name, root)
    shutil.rmtree(downloads)
    prune(root)
    furnish(root)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
