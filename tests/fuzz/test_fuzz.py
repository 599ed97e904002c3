"""Each fuzz target for a bounded time. The seed is printed; HEIWA_FUZZ_SEED repeats a run."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.properties.frame_streams import MAX_BYTES
from tests.support.jwts import token
from tests.support.wire import CLOSE, CONT, PING, TEXT, client_frame, request

pytest.importorskip("atheris", reason="atheris is missing: it is made for Linux and Python up to 3.13")

ROOT = Path(__file__).parents[2]
RUNS = 200_000
MAX_S = 20
SEEDS = {
    "frames": [
        client_frame(TEXT, b"hello") + client_frame(PING, b"?"),
        client_frame(TEXT, b"a", final=False) + client_frame(CONT, "é".encode()) + client_frame(CLOSE),
        client_frame(TEXT, b"x" * min(300, MAX_BYTES), length_bytes=8),
    ],
    "handshake": [request("a.b.c", protocols=["heiwa.echo"]), b"PROXY TCP4 203.0.113.5 10.0.0.1 4000 443\r\n"],
    "token": [token().encode(), token(header={"alg": "none"}).encode()],
}


@pytest.mark.timeout(180)
@pytest.mark.parametrize("target", SEEDS)
def test_fuzz(target: str, tmp_path: Path) -> None:
    corpus, artifacts = tmp_path / "corpus", tmp_path / "artifacts"
    corpus.mkdir()
    artifacts.mkdir()
    for number, example in enumerate(SEEDS[target]):
        (corpus / str(number)).write_bytes(example)
    seed = int(os.environ.get("HEIWA_FUZZ_SEED") or random.randrange(1, 2**31))
    print(f"HEIWA_FUZZ_SEED={seed}")
    options = [f"-seed={seed}", f"-atheris_runs={RUNS}", f"-max_total_time={MAX_S}", "-max_len=1000", "-timeout=20"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.target", target, *options, f"-artifact_prefix={artifacts}/", corpus],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    crashes = [path.read_bytes() for path in artifacts.iterdir()]
    assert done.returncode == 0, f"seed {seed}, input {crashes}:\n{done.stderr[-3000:]}"
    runs = re.findall(r"Done (\d+)", done.stderr)
    assert runs, f"the fuzzer did not finish: {done.stderr[-500:]}"
    assert int(runs[0]) > 1000, "too few inputs to mean anything"
    print(f"{target}: {runs[0]} inputs")
