"""How each peer is made and started. Versions are pinned in the peers' lock files; builds go to `.cache/`."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
CACHE = HERE.parents[2] / ".cache" / "bench"

# In the order of the table; the last one is the floor of any language.
PEERS = {
    "websockets": "websockets.asyncio, keepalive on",
    "aiohttp": "aiohttp, heartbeat on",
    "node": "Node ws",
    "gorilla": "Go gorilla, a goroutine a connection",
    "gobwas": "Go gobwas/ws on epoll",
}


class MissingToolError(Exception):
    """The peer needs a tool that this machine does not have."""


def command(peer: str) -> list[str]:
    """The command that starts a peer, built when it has to be. Raises MissingToolError naming the tool."""
    if peer in ("websockets", "aiohttp"):
        return [sys.executable, "-m", f"loadtest.bench.peers.{peer}_server"]
    return _node() if peer == "node" else _go(peer)


def _node() -> list[str]:
    node, npm = _tool("node"), _tool("npm")
    folder = CACHE / "node"
    shutil.copytree(HERE / "node", folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("node_modules"))
    if not (folder / "node_modules").exists():
        subprocess.run([npm, "ci", "--silent"], cwd=folder, check=True)
    return [node, str(folder / "server.js")]


def _go(peer: str) -> list[str]:
    CACHE.mkdir(parents=True, exist_ok=True)
    program = CACHE / peer
    subprocess.run([_tool("go"), "build", "-o", str(program), "."], cwd=HERE / peer, check=True)
    return [str(program)]


def _tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise MissingToolError(f"{name} is not installed")
    return found
