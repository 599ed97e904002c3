"""One connection pool to OpenSearch: who we are, and what an exchange that failed means."""

from __future__ import annotations

import asyncio
import ssl
import zlib
from base64 import b64encode
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import unquote, urlsplit

from aiohttp import ClientConnectorError, ClientError, ClientResponse, ClientSession, ClientTimeout, TCPConnector
from msgspec import DecodeError, Struct, json
from yarl import URL

from gateway.adapters.opensearch.signing import Signer
from gateway.errors import HeiwaError, SettingsError, StoreError, UnsignedError
from gateway.locations.bulk_outcome import Silence
from gateway.telemetry.log import Log

KEY = "locations.opensearch_url"
CONNECT_TIMEOUT_S = 2.0
# Shorter than any server keeps it: a request on a connection that was just closed is one of unknown outcome.
KEEP_ALIVE_S = 15.0
# As many as batches in flight, and the searches beside them.
CONNECTIONS = 32
MAX_ANSWER_BYTES = 64 << 20
# Above this, compressing and signing take longer than the loop may be blocked.
LARGE_BYTES = 64 << 10
T = TypeVar("T")
_JSON, _LINES = "application/json", "application/x-ndjson"
_REDIRECTS = range(300, 400)

_log = Log("opensearch")


class NoAnswerError(HeiwaError):
    """There was no answer that could be used; `silence` says why."""

    exit_code = 3

    def __init__(self, silence: Silence, problem: str) -> None:
        super().__init__(problem)
        self.silence = silence


class Response(NamedTuple):
    """An answer as it came."""

    status: int
    body: bytes

    def decoded(self, decode: Callable[[bytes], T]) -> T:
        """The body as what a decoder makes of it. Raises StoreError for anything else."""
        try:
            return decode(self.body)
        except (DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise StoreError(f"OpenSearch gave no usable answer: {error}") from error

    def json(self) -> Any:
        """The body decoded; None when it is not JSON."""
        try:
            return self.decoded(json.decode)
        except StoreError:
            return None


class Access(Struct, frozen=True):
    """How to reach OpenSearch and who we are there; the settings of the same names mean the same.

    `password` comes from the environment, never from `url`; from `password_file` where that is given.
    """

    url: str
    user: str = ""
    password: str = ""
    password_file: str = ""
    ca_file: str = ""
    certificate_file: str = ""
    key_file: str = ""
    sign_region: str = ""
    sign_service: str = "es"
    timeout_s: float = 10.0
    gzip: bool = False


def checked_url(url: str) -> URL:
    """The address without a path's last slash. Raises SettingsError.

    Plain http is for this machine and for private networks: anyone on the path reads positions and passwords.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        raise SettingsError(KEY, f"not an address: {error}") from error
    if not host or parts.scheme not in ("https", "http"):
        raise SettingsError(KEY, "must be an address as https://search.example.com:9200")
    if parts.username is not None or parts.password is not None:
        raise SettingsError(
            KEY, "must hold no user or password; set locations.opensearch_user and opensearch_password(_file)"
        )
    if parts.query or parts.fragment:
        raise SettingsError(KEY, "must hold neither a query nor a fragment")
    return URL(url.rstrip("/"))


class Connection:
    """Requests to one address. Made and used on one running event loop.

    Files with certificates and the password are read again when they changed and the server does not let us in: they
    are replaced while this runs. Raises SettingsError when one cannot be used at the start.
    """

    def __init__(self, access: Access) -> None:
        self.url = checked_url(access.url)
        self._access = access
        self._stamps = _stamps(access)
        self._ours = _read(access)
        self._signer = Signer(access.sign_region, access.sign_service) if access.sign_region else None
        self._session: ClientSession | None = None

    @property
    def named(self) -> bool:
        """Whether requests say who we are."""
        return bool(self._access.user or self._access.certificate_file or self._access.sign_region)

    @property
    def where(self) -> str:
        """Host and port, for messages."""
        return f"{self.url.host}:{self.url.port}"

    async def close(self) -> None:
        """End all connections; a request under way raises NoAnswerError."""
        if self._signer is not None:
            await self._signer.close()
        await self._leave()

    async def _leave(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        query: Mapping[str, str] | None = None,
        lines: bool = False,
        timeout_s: float | None = None,
        compress: bool = True,
    ) -> Response:
        """One exchange, never repeated. `path` is quoted already. Raises NoAnswerError; StoreError where requests are
        to be signed and no credentials are set up.

        Cancelling is safe; the server may have done what was asked.
        """
        url = URL(f"{self.url}{path}", encoded=True).with_query(query or {})
        headers = dict(self._ours.headers)
        if body is not None:
            headers["Content-Type"] = _LINES if lines else _JSON
            if self._access.gzip and compress and len(body) > 1024:
                body = await _off_the_loop(body, _compressed, body)
                headers["Content-Encoding"] = "gzip"
        timeout_s = timeout_s or self._access.timeout_s
        if self._signer is not None:
            headers = await self._signed(self._signer, method, url, headers, body, timeout_s)
        try:
            response = await self._exchange(method, url, headers, body, timeout_s)
        except NoAnswerError as error:
            if error.silence in (Silence.NOT_SENT, Silence.BROKEN):
                await self._read_again()
            raise
        if response.status in (401, 403):
            await self._read_again()
        return response

    async def _signed(
        self,
        signer: Signer,
        method: str,
        url: URL,
        headers: Mapping[str, str],
        body: bytes | None,
        timeout_s: float,
    ) -> dict[str, str]:
        try:
            async with asyncio.timeout(timeout_s):
                return await signer.sign(method, url, headers, body)
        except TimeoutError as error:
            raise NoAnswerError(Silence.UNSIGNED, f"there were no credentials within {timeout_s:g} s") from error
        except UnsignedError as error:
            raise NoAnswerError(Silence.UNSIGNED, str(error)) from error

    async def _read_again(self) -> None:
        """Whoever refuses us may want what the files hold by now."""
        stamps = _stamps(self._access)
        if stamps == self._stamps:
            return
        self._stamps = stamps
        try:
            self._ours = await asyncio.to_thread(_read, self._access)
        except SettingsError as error:
            _log.error("opensearch_files_unusable", problem=str(error))
            return
        _log.info("opensearch_files_read")
        await self._leave()

    async def _exchange(
        self, method: str, url: URL, headers: Mapping[str, str], body: bytes | None, timeout_s: float
    ) -> Response:
        if self._session is None:
            self._session = self._open()
        try:
            async with (
                asyncio.timeout(timeout_s),
                self._session.request(method, url, data=body, headers=headers, allow_redirects=False) as response,
            ):
                body_read = await self._read(response)
                if response.status in _REDIRECTS:
                    body_read = f"it leads to {_place(response)}".encode()
                return Response(response.status, body_read)
        except ClientConnectorError as error:
            problem = error.strerror or str(error.os_error) or type(error).__name__
            raise NoAnswerError(Silence.NOT_SENT, f"{self.where}: {problem}") from error
        except TimeoutError as error:
            raise NoAnswerError(Silence.TIMEOUT, f"{self.where} did not answer within {timeout_s:g} s") from error
        except (ClientError, OSError, RuntimeError) as error:
            # RuntimeError: the session was closed under us.
            said = getattr(error, "strerror", None) or type(error).__name__
            problem = f"{self.where} broke off its answer ({said})"
            raise NoAnswerError(Silence.BROKEN, problem) from error

    async def _read(self, response: ClientResponse) -> bytes:
        """The body, whose size is bounded: whoever answers may be somebody else."""
        body = bytearray()
        async for part in response.content.iter_any():
            body += part
            if len(body) > MAX_ANSWER_BYTES:
                problem = f"{self.where} answered with more than {MAX_ANSWER_BYTES} bytes"
                raise NoAnswerError(Silence.UNREADABLE, problem)
        return bytes(body)

    def _open(self) -> ClientSession:
        connector = TCPConnector(
            limit=CONNECTIONS, keepalive_timeout=KEEP_ALIVE_S, ssl=self._ours.tls, ttl_dns_cache=10
        )
        return ClientSession(
            connector=connector,
            timeout=ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),
            auto_decompress=True,
            max_line_size=65536,
        )


class _Ours(NamedTuple):
    """What was read: whom to believe, our own certificate (mTLS), and our name with the password."""

    tls: ssl.SSLContext | bool
    headers: Mapping[str, str]


def _stamps(access: Access) -> list[tuple[int, int, int] | None]:
    """What tells whether the files have changed since."""
    names = (access.ca_file, access.certificate_file, access.key_file, access.password_file)
    return [_stamp(name) for name in names if name]


def _stamp(name: str) -> tuple[int, int, int] | None:
    try:
        found = Path(name).stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _read(access: Access) -> _Ours:
    headers = {"Accept-Encoding": "identity", "User-Agent": "heiwa"}
    if access.user:
        password = read_password(access.password_file) if access.password_file else access.password
        headers["Authorization"] = _basic(access.user, password)
    return _Ours(_tls(access), headers)


def read_password(name: str) -> str:
    """The password in a file. Raises SettingsError."""
    try:
        return Path(name).read_text().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError("locations.opensearch_password_file", f"cannot be read: {error}") from error


def _tls(access: Access) -> ssl.SSLContext | bool:
    if not (access.ca_file or access.certificate_file):
        return True
    try:
        context = ssl.create_default_context(cafile=access.ca_file or None)
        if access.certificate_file:
            context.load_cert_chain(access.certificate_file, access.key_file or None)
    except (OSError, ValueError) as error:
        raise SettingsError(
            "locations.opensearch_ca_file" if not access.certificate_file else "locations.opensearch_certificate_file",
            f"cannot be used: {error}",
        ) from error
    return context


def _place(response: ClientResponse) -> str:
    """Where a redirect leads, without what may be secret in it."""
    return response.headers.get("Location", "nowhere").partition("?")[0][:200]


def _basic(user: str, password: str) -> str:
    return "Basic " + b64encode(f"{unquote(user)}:{password}".encode()).decode()


def _compressed(body: bytes) -> bytes:
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    return packer.compress(body) + packer.flush()


async def _off_the_loop(body: bytes, call: Any, *arguments: Any) -> Any:
    """Large bodies in a thread, small ones here: a thread costs more than they do."""
    return await asyncio.to_thread(call, *arguments) if len(body) > LARGE_BYTES else call(*arguments)
