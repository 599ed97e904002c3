"""What is published: the same when built twice, and at work in an empty environment, without the checkout."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import signal
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

from gateway import __version__
from tests.support.process import ROOT

pytestmark = pytest.mark.timeout(400)


def _module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"release_{name}", ROOT / f"release/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    made: list[Path] = _module("build").build(tmp_path_factory.mktemp("dist"))
    return made


def test_the_same_commit_gives_the_same_bytes(built: list[Path], tmp_path: Path) -> None:
    again = _module("build").build(tmp_path / "again")
    assert [path.name for path in again] == [path.name for path in built]
    assert [_sum(path) for path in again] == [_sum(path) for path in built]
    names = [f"heiwa_gateway-{__version__}-py3-none-any.whl", f"heiwa_gateway-{__version__}.tar.gz"]
    assert [path.name for path in built] == names


def _sum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_everything_is_in_them_and_nothing_else(built: list[Path]) -> None:
    wheel, source = built
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    listed = subprocess.run(
        ["git", "ls-files", "gateway", "loadtest"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    # Peers of benchmarks are built from the checkout.
    wanted = {name for name in listed if not name.startswith("loadtest/bench/peers/") or name.endswith(".py")}
    assert packed >= {name for name in wanted if name.endswith((".py", ".toml", ".gpx", ".typed", ".html"))}
    assert {name.partition("/")[0] for name in packed} == {"gateway", "loadtest"}
    with tarfile.open(source) as archive:
        members = archive.getmembers()
    assert {(one.uid, one.uname) for one in members} == {(0, "")}
    assert len({one.mtime for one in members}) == 1


@pytest.fixture(scope="module")
def environment(built: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty environment with what the lock file and the wheel bring, and nothing of the checkout."""
    folder = tmp_path_factory.mktemp("installed") / "venv"
    uv = str(Path(sys.executable).with_name("uv"))
    quiet = {**os.environ, "VIRTUAL_ENV": str(folder), "UV_LINK_MODE": "copy"}
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(folder)], check=True, env=quiet)
    install = [uv, "pip", "install", "--quiet", "--constraint", str(ROOT / "requirements-dev.lock")]
    subprocess.run([*install, f"{built[0]}[loadtest]"], check=True, env=quiet, cwd="/", timeout=300)
    return folder


def _inside(environment: Path, folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    variables = {"PATH": f"{environment / 'bin'}:/usr/bin:/bin", "HOME": str(folder)}
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=60, check=False)


def test_the_installed_program_works(environment: Path, tmp_path: Path) -> None:
    assert _inside(environment, tmp_path, "heiwa", "--version").stdout == f"heiwa {__version__}\n"
    where = _inside(environment, tmp_path, "python", "-c", "import gateway, loadtest; print(gateway.__file__)").stdout
    assert where.startswith(str(environment))
    variables = {"PATH": f"{environment / 'bin'}:/usr/bin:/bin"}
    addresses = [f"--set=listen.{name}=127.0.0.1:0" for name in ("public", "operations")]
    with subprocess.Popen(
        ["heiwa", "serve", *addresses],
        cwd=tmp_path,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            said = _announced(process)
            url = re.search(r"ws://\S+", said)
            assert url is not None, said
            device = ("heiwa", "device", "--sub", "dog-1", "--count", "3", "--speed", "0", "--url", url[0])
            done = _inside(environment, tmp_path, *device)
            assert "3 measured, 3 acknowledged" in done.stdout, done.stdout + done.stderr
            process.send_signal(signal.SIGTERM)
            assert process.wait(40) == 0
        finally:
            process.kill()


def _announced(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if "curl" in line:
            break
    return said


def test_the_installed_load_test_has_its_scenarios(environment: Path, tmp_path: Path) -> None:
    done = _inside(environment, tmp_path, "heiwa-loadtest", "list")
    assert done.returncode == 0, done.stderr
    assert "deploy" in done.stdout


def test_a_release_is_cut() -> None:
    cut = _module("cut")
    text = "# Changelog\n\n## [Unreleased]\n\nTo become 0.1.0.\n\n### Added\n\n- It.\n"
    assert cut.cut_changelog(text, "0.1.0", "2026-12-01") == (
        "# Changelog\n\n## [Unreleased]\n\n## [0.1.0] - 2026-12-01\n\n### Added\n\n- It.\n"
    )
    with pytest.raises(ValueError, match="already"):
        cut.cut_changelog(text + "\n## [0.1.0]\n", "0.1.0", "2026-12-01")
    with pytest.raises(ValueError, match="nothing"):
        cut.cut_changelog("## [Unreleased]\n\n## [0.0.1]\n\n- It.\n", "0.1.0", "2026-12-01")
    assert cut.set_version('"""x"""\n\n__version__ = "0.0.1"\n', "0.1.0rc1").endswith('__version__ = "0.1.0rc1"\n')
    with pytest.raises(ValueError, match="not a version"):
        cut.set_version('__version__ = "0.0.1"\n', "v1")
    real = (ROOT / "CHANGELOG.md").read_text()
    assert "## [9.9.9] - 2026-12-01" in cut.cut_changelog(real, "9.9.9", "2026-12-01")


def test_the_version_stands_in_one_place() -> None:
    found = subprocess.run(
        ["git", "grep", "-lF", f'"{__version__}"', "--", "*.py", "*.toml", "*.yaml", "Dockerfile"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.split()
    assert "gateway/__init__.py" in found
    assert not {"pyproject.toml", "Dockerfile", "compose.yaml"} & set(found)
