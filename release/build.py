"""Build dist/*.whl and dist/*.tar.gz, the same bytes from the same commit: `make dist`.

The wheel is built from the source distribution, so that what it lacks is noticed. setuptools takes the times in a wheel
from SOURCE_DATE_EPOCH, but not those in a source distribution: these, owners and order are set here.
"""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# The first moment that a ZIP file can hold.
EARLIEST_S = 315_532_800


def build(out: Path) -> list[Path]:
    """Both files, in `out`, which is made. Raises CalledProcessError."""
    epoch_s = int(os.environ.get("SOURCE_DATE_EPOCH") or _commit_time_s())
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(epoch_s), "PYTHONHASHSEED": "0"}
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        _run("--sdist", ROOT, Path(work), environment)
        (source,) = Path(work).glob("*.tar.gz")
        repacked = out / source.name
        repacked.write_bytes(_repacked(source, epoch_s))
        with tarfile.open(repacked) as archive:
            archive.extractall(work, filter="data")
        _run("--wheel", Path(work) / source.name.removesuffix(".tar.gz"), out, environment)
    return sorted([repacked, *out.glob(f"{source.name.removesuffix('.tar.gz')}-*.whl")])


def _run(kind: str, source: Path, out: Path, environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "build", "--no-isolation", kind, "--outdir", str(out), str(source)]
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)


def _commit_time_s() -> int:
    command = ["git", "-C", str(ROOT), "log", "-1", "--format=%ct"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return max(EARLIEST_S, int(done.stdout.strip() or 0))


def _repacked(source: Path, epoch_s: int) -> bytes:
    packed = io.BytesIO()
    with (
        gzip.GzipFile(filename="", mode="wb", fileobj=packed, mtime=epoch_s) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.PAX_FORMAT) as target,
        tarfile.open(source) as archive,
    ):
        for member in sorted(archive.getmembers(), key=lambda one: one.name):
            member.mtime, member.uid, member.gid, member.uname, member.gname = epoch_s, 0, 0, "", ""
            member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            member.pax_headers = {}
            target.addfile(member, archive.extractfile(member) if member.isfile() else None)
    return packed.getvalue()


if __name__ == "__main__":
    for made in build(ROOT / "dist"):
        print(made.relative_to(ROOT))  # noqa: T201
