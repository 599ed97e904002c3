"""What the machine allows, and the spare descriptor."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from gateway.adapters.machine import SpareFile, memory


def test_memory_is_read_when_the_spare_file_is_the_last() -> None:
    spare = SpareFile()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
    held = []
    try:
        with pytest.raises(OSError, match="Too many open files"):
            while True:
                held.append(os.open(os.devnull, os.O_RDONLY))
        with pytest.raises(OSError, match="Too many open files"):
            memory()
        with spare:
            assert memory().limit_bytes > 0
        with pytest.raises(OSError, match="Too many open files"):
            os.open(os.devnull, os.O_RDONLY)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in held:
            os.close(descriptor)
        spare.close()


def test_a_spare_file_that_somebody_took_comes_back() -> None:
    spare = SpareFile()
    spare.close()
    spare.close()
    with spare:
        pass
    assert spare._descriptor is not None
    spare.close()
