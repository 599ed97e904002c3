"""`heiwa check`: try everything the settings name, and say how to mend what is wrong. Changes nothing that stays."""

from __future__ import annotations

import asyncio
import fcntl
import os
import resource
import shutil
import tempfile
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path
from random import Random
from typing import cast

from gateway.adapters.clock import SystemClock
from gateway.adapters.data_folder import LOCK_NAME
from gateway.adapters.jwks_endpoint import JwksEndpoint
from gateway.adapters.machine import memory
from gateway.adapters.mounts import loss_of
from gateway.adapters.sqlite import day as sqlite_day
from gateway.adapters.sqlite import history as sqlite_history
from gateway.adapters.sqlite import spool as sqlite_spool
from gateway.adapters.sqlite.layout import HISTORY_NAME, INDEX_FOLDER, SPOOL_NAME
from gateway.app.listening import Bound, Listening, bind, listenings
from gateway.app.parts import (
    connections_maximum,
    consistent,
    shared_key,
)
from gateway.cli import check_balancer, check_broker, check_locations, check_runners, check_workflows
from gateway.cli.result import Result
from gateway.connections.admission import admission
from gateway.connections.connection import Session
from gateway.connections.door import Door
from gateway.connections.hub import Hub
from gateway.drain.drainer import Drainer
from gateway.drain.outlook import BAD, GOOD, WARN
from gateway.drain.ports import Receipts
from gateway.errors import HeiwaError, KeySetError, SettingsError
from gateway.identity.auth import Authenticator
from gateway.identity.jwk import read_key_set
from gateway.identity.key_files import KEY_NAME, readable_by_others
from gateway.identity.public_key import rsa_bits
from gateway.settings.model import Settings
from gateway.wire.handshake import V1
from gateway.wire.listener import tls_context
from gateway.wire.origin import unusual

# A device holds one file; below this many a small fleet already fills the process.
FEW_FILES = 4096
# SQLite, "Database File Format", 1.3: the header, and where it holds PRAGMA user_version.
_MAGIC = b"SQLite format 3\0"
_HEADER_BYTES = 100
_VERSION_AT = slice(60, 64)
# What these clients take in a frame; ESP-IDF's hands over a longer one in pieces.
RECEIVE_BYTES = {"esp-idf": 1024, "esp-idf-reconnect": 1024, "arduino": 15_360}
ESP_IDF_TOKEN_BYTES = 760
BALANCER_IDLE_S = 60.0
LARGE_RSA_BITS = 3072
LITTLE_DISK_BYTES = 1 << 30
SMALL_MEMORY_BYTES = 128 << 20


def run(settings: Settings) -> list[Result]:
    """Try everything; one part that fails does not stop the others."""
    parts: tuple[tuple[str, Callable[[Settings], Iterator[Result]]], ...] = (
        ("data.folder", _folder),
        ("stores", _stores),
        ("listen", _listen),
        ("connections", _connections),
        ("device_classes", _devices),
        ("listen.tls", _tls),
        ("auth", _keys),
        ("memory", _memory),
        ("files", _files),
        ("drain", check_balancer.results),
        ("locations", check_locations.results),
        ("broker", check_broker.results),
        ("workflows", check_workflows.results),
        ("runners", check_runners.results),
    )
    results: list[Result] = []
    for name, part in parts:
        try:
            results.extend(part(settings))
        except SettingsError as error:
            results.append(Result(error.key or name, BAD, str(error), "correct the setting; `heiwa serve` refuses it"))
        except (HeiwaError, OSError) as error:
            results.append(Result(name, BAD, str(error)))
    return results


def table(results: list[Result]) -> str:
    """One line a thing, how to mend it below."""
    width = max(len(result.name) for result in results)
    lines = []
    for result in results:
        lines.append(f"{result.verdict:<8} {result.name:<{width}}  {result.found}")
        if result.mend:
            lines.append(f"{'':<8} {'':<{width}}  -> {result.mend}")
    return "\n".join(lines)


def _folder(settings: Settings) -> Iterator[Result]:
    folder = Path(settings.data.folder)
    name = "data.folder"
    if folder.is_symlink() and not folder.exists():
        yield Result(name, BAD, f"{folder} is a symbolic link to nothing", "set data.folder to a folder")
        return
    if not folder.exists():
        parent = next(parent for parent in folder.absolute().parents if parent.exists())
        try:
            # What a file system lets be made is not told by modes alone.
            with tempfile.TemporaryDirectory(dir=parent):
                pass
        except OSError as error:
            mend = f"make {parent} writable for this user, or set data.folder"
            yield Result(name, BAD, f"{folder.absolute()} cannot be made: {error.strerror}", mend)
            return
        yield Result(name, GOOD, f"{folder.absolute()} will be made at first start")
        return
    if not folder.is_dir():
        yield Result(name, BAD, f"{folder} is not a folder", "set data.folder to a folder")
        return
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        yield Result(name, BAD, f"{folder} cannot be written: {error.strerror}", "change its owner or set data.folder")
        return
    if folder.stat().st_mode & 0o077:
        yield Result(name, WARN, f"{folder} can be read by others", f"chmod 700 {folder}")
    else:
        yield Result(name, GOOD, f"{folder.absolute()} is writable")
    lost = loss_of(folder, os.environ, shared=bool(settings.locations.opensearch_url))
    if lost is not None:
        said = f"the index, the spool, dead letters and the key are lost with {lost.lost_with}"
        yield Result(name, WARN, said, lost.mend)
    yield _lock(folder)
    free_bytes = shutil.disk_usage(folder).free
    little = free_bytes < LITTLE_DISK_BYTES
    mend = "free some space: events that cannot be spooled are refused" if little else ""
    yield Result("disk", WARN if little else GOOD, f"{free_bytes / 2**30:.1f} GiB free", mend)


def _stores(settings: Settings) -> Iterator[Result]:
    """Whether this version can read them. Only their headers are read: a gateway may be using them."""
    folder = Path(settings.data.folder)
    known = dict.fromkeys(sorted((folder / INDEX_FOLDER).glob("*.db")), sqlite_day.SCHEMA_VERSION)
    for name, version in ((SPOOL_NAME, sqlite_spool.SCHEMA_VERSION), (HISTORY_NAME, sqlite_history.SCHEMA_VERSION)):
        if (folder / name).exists():
            known[folder / name] = version
    wrong = False
    for path, version in known.items():
        with path.open("rb") as file:
            header = file.read(_HEADER_BYTES)
        found = int.from_bytes(header[_VERSION_AT])
        if header and not header.startswith(_MAGIC):
            # Of a damaged spool a start takes what it can, and a damaged history it begins anew; a day is opened as it
            # is, or not at all.
            verdict = WARN if path.name in (SPOOL_NAME, HISTORY_NAME) else BAD
            yield Result("stores", verdict, f"{path} is not an SQLite database", "move it out of the folder")
        elif found > version:
            said = f"{path} has schema {found}, this version knows {version}"
            yield Result("stores", BAD, said, "use the newer version of the program that wrote it")
        else:
            continue
        wrong = True
    if known and not wrong:
        yield Result("stores", GOOD, f"{len(known)} files can be read by this version")


def _lock(folder: Path) -> Result:
    path = folder / LOCK_NAME
    if not path.exists():
        return Result("data.folder lock", GOOD, "never used yet")
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return Result("data.folder lock", WARN, "a gateway is using it now", "stop it before starting another one")
    return Result("data.folder lock", GOOD, "free")


def _listen(settings: Settings) -> Iterator[Result]:
    bound: list[Bound] = []
    try:
        for listening in listenings(settings):
            yield _port(listening, bound)
    finally:
        for one in bound:
            one.socket.close()
    consistent(settings)


def _port(listening: Listening, bound: list[Bound]) -> Result:
    key = listening.key
    try:
        bound.append(bind(listening, bound))
    except HeiwaError as error:
        mend = f"stop what listens there, or set {key} to another address of this machine (port 0 picks a free port)"
        return Result(key, BAD, str(error), mend)
    host = str(bound[-1].socket.getsockname()[0])
    if key == "listen.operations" and not ip_address(host.partition("%")[0]).is_loopback:
        found = f"{listening.address} is free, but not only this machine can reach it"
        return Result(key, WARN, found, "keep it internal")
    return Result(key, GOOD, f"{listening.address} is free")


def _connections(settings: Settings) -> Iterator[Result]:
    """What all connections share is made, as `serve` does: whatever it does not take is wrong."""
    clock = SystemClock()
    hub = Hub(settings, clock, admission(settings.connections, 1, 1, clock.monotonic_s()), Random(0))  # noqa: S311
    door = Door(hub, settings, cast(Authenticator, None), {V1: cast(Session, None)})
    Drainer(settings.drain, door, clock, hub.chance, cast(Receipts, None))
    odd = unusual(door.policy.allowed_origins)
    if odd:
        found = f"no browser sends {', '.join(odd)}; only a client that sends exactly this is let in"
        yield Result("listen.allowed_origins", WARN, found, "keep what device libraries send; pages are https://host")
    else:
        yield Result("connections", GOOD, "the settings of connections, proxies, origins and drains fit together")


def _devices(settings: Settings) -> Iterator[Result]:
    """Where the settings ask more of small clients than they can do (docs/how-to/known-clients.md)."""
    name = "device_classes"
    for class_name, taken_bytes in RECEIVE_BYTES.items():
        found = settings.device_classes[class_name].max_frame_bytes
        if found > taken_bytes:
            said = f"frames for {class_name} have up to {found} bytes, and that client takes {taken_bytes}"
            yield Result(
                f"{name}.{class_name}", WARN, said, f"set {name}.{class_name}.max_frame_bytes to {taken_bytes}"
            )
    if settings.device_classes["esp-idf"].close != "abort":
        said = "ESP-IDF's client ends for good at a close frame"
        yield Result(f"{name}.esp-idf", WARN, said, f"set {name}.esp-idf.close to abort")
    heartbeat_s = settings.connections.heartbeat_s
    if heartbeat_s >= BALANCER_IDLE_S:
        said = f"a ping every {heartbeat_s:g} s is too late: balancers end what is idle for {BALANCER_IDLE_S:g} s"
        yield Result("connections.heartbeat_s", WARN, said, "set it below the balancer's idle time-out, to 45 for one")
    said = f'a silent device, or one that sees no pings, sends {{"type":"ping"}} every {heartbeat_s / 2:g} s'
    yield Result("devices", GOOD, f"{said}; tokens for ESP-IDF have at most {ESP_IDF_TOKEN_BYTES} bytes")


def _tls(settings: Settings) -> Iterator[Result]:
    certificate, key = settings.listen.tls_certificate_file, settings.listen.tls_key_file
    if not certificate:
        found = "not used: a load balancer is expected to end TLS"
        no_certificate, mend = "a key is set but no certificate", "set listen.tls_certificate_file as well"
        yield Result("listen.tls", BAD, no_certificate, mend) if key else Result("listen.tls", GOOD, found)
        return
    try:
        tls_context(settings.listen)
    except SettingsError as error:
        missing = next((path for path in (certificate, key) if path and not Path(path).exists()), None)
        mend = "the key must belong to the first certificate, both PEM, without a password"
        found = f"{missing} does not exist" if missing else f"{certificate} with {key or 'its own key'}: {error}"
        yield Result("listen.tls", BAD, found, "correct the path" if missing else mend)
    else:
        yield Result("listen.tls", GOOD, f"{certificate} and its key belong together")


def _keys(settings: Settings) -> Iterator[Result]:
    auth = settings.auth
    if auth.jwks_url:
        yield from _key_set(settings)
        return
    shared_key(settings)
    if auth.secret:
        Authenticator(auth, Path(settings.data.folder), SystemClock())
        yield Result("auth", GOOD, "tokens are checked with the secret of HEIWA_AUTH__SECRET")
        return
    named = auth.public_key_file or auth.secret_file
    path = Path(named) if named else Path(settings.data.folder) / KEY_NAME
    if not named and not path.exists():
        yield Result("auth", GOOD, f"no key is set: {path} will be made at first start")
        return
    try:
        Authenticator(auth, Path(settings.data.folder), SystemClock())
    except SettingsError as error:
        yield Result(error.key, BAD, str(error), "tokens cannot be checked without a good key")
        return
    if not auth.public_key_file and readable_by_others(path):
        yield Result("auth", WARN, f"{path} can be read by others", f"chmod 600 {path}")
        return
    yield Result("auth", GOOD, f"tokens are checked with {path}")
    if auth.public_key_file:
        yield from _token_size(rsa_bits(path.read_bytes()))


def _key_set(settings: Settings) -> Iterator[Result]:
    auth, name = settings.auth, "auth.jwks_url"
    Authenticator(auth, Path(settings.data.folder), SystemClock())
    try:
        found = read_key_set(asyncio.run(JwksEndpoint(auth.jwks_url).fetch()))
    except KeySetError as error:
        yield Result(name, BAD, str(error), "let this machine reach the issuer, and correct the address")
        return
    left_out = ", ".join(f"{count} {reason}" for reason, count in sorted(found.left_out.items()))
    said = f"{len(found.keys)} keys" + (f"; left out: {left_out}" if left_out else "")
    if not found.keys:
        yield Result(name, BAD, f"no key can be used ({left_out or 'the set is empty'})", "see auth in the settings")
    elif not auth.audience:
        mend = "set auth.audience: else a token that the issuer made for another service is taken, too"
        yield Result(name, WARN, said, mend)
    else:
        yield Result(name, GOOD, said)
    yield from _token_size(max((8 * len(key.parts[0]) for key in found.keys if key.algorithm == "RS256"), default=0))


def _token_size(bits: int) -> Iterator[Result]:
    """The signature is a third larger than the key in a token, and small clients have small buffers."""
    if bits >= LARGE_RSA_BITS:
        found = f"with an RSA key of {bits} bits a token has 850 bytes or more; ESP-IDF takes {ESP_IDF_TOKEN_BYTES}"
        yield Result("auth tokens", WARN, found, "where such devices connect, use ES256 or an RSA key of 2048 bits")


def _memory(settings: Settings) -> Iterator[Result]:
    now = memory(settings.connections.memory_limit_bytes)
    small = now.limit_bytes < SMALL_MEMORY_BYTES
    mend = "give it at least 128 MiB: a bare process takes up to 50" if small else ""
    found = f"{now.limit_bytes / 2**20:.0f} MiB by {now.source}, {now.share:.0%} of it used now"
    yield Result("memory", WARN if small else GOOD, found, mend)


def _files(settings: Settings) -> Iterator[Result]:
    # The gateway raises its own soft limit to the hard one.
    _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    reserve, wanted = settings.connections.file_reserve, settings.connections.maximum
    http = settings.connections.http_maximum
    try:
        room = connections_maximum(settings, limit)
    except SettingsError as error:
        mend = f"raise it (ulimit -Hn {wanted + reserve + http}, LimitNOFILE, nofile) or lower connections.maximum"
        yield Result("files", BAD, str(error), mend)
        return
    if limit < FEW_FILES:
        mend = "raise it: ulimit -Hn 65536, LimitNOFILE=65536, or nofile in the task definition"
        yield Result("files", WARN, f"a limit of {limit} allows {room} connections", mend)
    else:
        yield Result("files", GOOD, f"a limit of {limit} allows {room} connections")
