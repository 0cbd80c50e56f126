"""`python -m deploy.dashboards FOLDER` writes the JSON of every dashboard, the same each time."""

from __future__ import annotations

import argparse
from pathlib import Path

from deploy.dashboards.texts import HOME, texts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=HOME)
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts().items():
        (folder / name).write_text(text)


if __name__ == "__main__":
    main()
