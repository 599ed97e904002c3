"""Cut a release: `python release/cut.py 0.1.0`. Sets the version and dates the changelog; commits and tags nothing."""

from __future__ import annotations

import re
import sys
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
UNRELEASED = "## [Unreleased]\n"


def cut_changelog(text: str, version: str, date: str) -> str:
    """What was unreleased has a version and a date. Raises ValueError: nothing is, or the version is there already."""
    if f"## [{version}]" in text:
        raise ValueError(f"the changelog has {version} already")
    before, found, after = text.partition(UNRELEASED)
    changes = re.sub(r"\A\s*To become [0-9.]+\.\n", "", after)
    if not found or not changes.partition("\n## [")[0].strip():
        raise ValueError("nothing is unreleased")
    return f"{before}{UNRELEASED}\n## [{version}] - {date}\n\n{changes.lstrip()}"


def set_version(text: str, version: str) -> str:
    """The module that everything else reads the version from. Raises ValueError."""
    if not re.fullmatch(r"[0-9]+\.[0-9]+\.[0-9]+((a|b|rc)[0-9]+)?", version):
        raise ValueError(f"{version!r} is not a version; write 0.1.0 or 0.1.0rc1")
    changed, count = re.subn(r'^__version__ = ".*"$', f'__version__ = "{version}"', text, flags=re.MULTILINE)
    if count != 1:
        raise ValueError("__version__ was not found once")
    return changed


def main() -> None:
    """Change both files, or none."""
    (version,) = sys.argv[1:]
    module, changelog = ROOT / "gateway/__init__.py", ROOT / "CHANGELOG.md"
    date = datetime.now(UTC).date().isoformat()
    texts = {
        module: set_version(module.read_text("utf-8"), version),
        changelog: cut_changelog(changelog.read_text("utf-8"), version, date),
    }
    for path, text in texts.items():
        path.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
