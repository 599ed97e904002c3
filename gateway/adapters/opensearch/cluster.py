"""Looking at a cluster and setting it up: `heiwa init opensearch`, `heiwa check`, and the start of a gateway."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from msgspec import json

from gateway.adapters.opensearch import definitions
from gateway.adapters.opensearch.connection import Connection, NoAnswerError, Response
from gateway.adapters.opensearch.definitions import VERSION, Names
from gateway.errors import ClusterError, UnreachableError

MAJOR_VERSIONS = (2, 3)
INIT = "run `heiwa init opensearch`"
# What a proxy says of a cluster that is away, and a cluster that is starting or busy of itself.
_AWAY = (429, 502, 503, 504)
# A week of days, each with a copy.
SHARDS_OF_DAYS = 14


class Finding(NamedTuple):
    """One thing that was looked at; `mend` is empty when it is well."""

    name: str
    found: str
    mend: str = ""
    # Without it documents would be stored wrongly, or not at all.
    needed: bool = True


class Change(NamedTuple):
    """What `init` did: made, changed, or unchanged; or why not."""

    name: str
    done: str


class Cluster:
    """Administration of what we use. Every call raises UnreachableError when there is no answer."""

    def __init__(self, connection: Connection, names: Names, retention_days: int) -> None:
        self._connection = connection
        self._names = names
        self._days = retention_days

    async def version(self) -> str:
        """The version, checked. Raises ClusterError for one that we do not know, and for Elasticsearch."""
        answer = await self._ask("GET", "/")
        found = answer.json()
        if answer.status in (401, 403):
            raise ClusterError(f"{self._connection.where} answered HTTP {answer.status}: {self._credentials()}")
        if answer.status != 200 or not isinstance(found, dict) or not isinstance(found.get("version"), dict):
            raise ClusterError(f"{self._connection.where} is not OpenSearch: {_said(answer)}")
        number = str(found["version"].get("number", ""))
        if found["version"].get("distribution") != "opensearch":
            raise ClusterError(
                f"{self._connection.where} is Elasticsearch {number or 'of an unknown version'}, or something like it: "
                "the retention policy (ISM) and the answers that tell what may be sent again are OpenSearch's; use "
                "OpenSearch 2 or 3"
            )
        major = number.partition(".")[0]
        if not major.isdigit() or int(major) not in (*MAJOR_VERSIONS, 7):
            raise ClusterError(f"{self._connection.where} is OpenSearch {number}; 2 and 3 are known")
        # 7.10.2: a domain in compatibility mode says so for the sake of old clients.
        return f"{number} (compatibility mode)" if major == "7" else number

    async def findings(self) -> list[Finding]:
        """What is there of what we need. Raises ClusterError as `version` does."""
        with _understood(self._connection.where):
            return await self._findings()

    async def _findings(self) -> list[Finding]:
        names = self._names
        found = [Finding("version", f"OpenSearch {await self.version()}")]
        found.append(await self.template())
        found.append(await self._look(f"/_ingest/pipeline/{names.overflow}", "ingest pipeline", _version_of_pipeline))
        for index in (names.overflow, names.latest, names.connections):
            found.append(await self._look(f"/{index}/_settings", f"index {index}", lambda _: VERSION))
        for index, body in (
            (names.latest, definitions.latest_index()),
            (names.connections, definitions.connections_index()),
        ):
            found += await self._guessed(index, body["mappings"]["properties"])
        found += await self._guessed_days()
        found += [await self._final_pipeline(), *await self._room_for_days(), await self._policy()]
        return found

    async def template(self) -> Finding:
        """The index template: a day that begins without it has fields that are guessed from its first document."""
        name = "index template"
        wanted = definitions.template(self._names)["template"]["mappings"]
        answer = await self._ask("GET", f"/_index_template/{self._names.prefix}")
        with _understood(self._connection.where):
            finding = self._judge(answer, name, _version_of_template)
            if not finding.mend and _version_of_template(answer.json()) == VERSION and not _maps(answer.json(), wanted):
                return Finding(name, "has other fields than ours: it was changed", INIT)
        return finding

    async def _look(self, path: str, name: str, version: Any) -> Finding:
        return self._judge(await self._ask("GET", path), name, version)

    def _judge(self, answer: Response, name: str, version: Any) -> Finding:
        if answer.status == 404:
            return Finding(name, "is missing", INIT)
        if answer.status != 200:
            return Finding(name, f"cannot be read: {_said(answer)}", self._credentials())
        known = version(answer.json())
        if known == VERSION:
            return Finding(name, "is there")
        if definitions.is_newer(known):
            return Finding(name, f"has version {known}, of a newer program, which only added to it")
        mend = "use the newer program" if isinstance(known, int) and known > VERSION else INIT
        return Finding(name, f"has version {known}, this program needs {VERSION}", mend)

    async def _guessed(self, index: str, wanted: Mapping[str, Any]) -> list[Finding]:
        """One that was deleted under a running gateway is made again by its next write, with guessed fields."""
        mend = "stop the gateways, delete it (and an alias of its name), run `heiwa init opensearch`"
        return [
            Finding(f"index {index}", f"has other fields than ours: {said}", mend, needed=False)
            for _, said in await self._wrong_fields(index, wanted)
        ][:1]

    async def _guessed_days(self) -> list[Finding]:
        """A day that was made while there was no template: a search that meets it fails as a whole."""
        wanted = definitions.template(self._names)["template"]["mappings"]["properties"]
        mend = "searches fail until it is mended: copy it (_reindex) into an index of our fields, or delete it"
        return [
            Finding(f"index {day}", f"has other fields than ours: {said}", mend, needed=False)
            for day, said in await self._wrong_fields(self._names.days, wanted)
        ]

    async def _wrong_fields(self, indices: str, wanted: Mapping[str, Any]) -> list[tuple[str, str]]:
        """The indices whose fields are not of the wanted kinds, each with what is wrong."""
        answer = await self._ask("GET", f"/{indices}/_mapping")
        found = answer.json() if answer.status == 200 else {}
        return [
            (index, said)
            for index, one in found.items()
            if (said := _wrong(one.get("mappings", {}).get("properties", {}), wanted))
        ]

    async def _final_pipeline(self) -> Finding:
        """One on our indices runs although a request says `pipeline=_none`, and may drop what it likes."""
        answer = await self._ask("GET", f"/{self._names.days}/_settings/index.final_pipeline")
        found = answer.json() if answer.status == 200 else {}
        names = sorted(name for name, value in found.items() if value.get("settings")) if found else []
        if names:
            return Finding("final pipeline", f"on {', '.join(names[:3])}", "remove index.final_pipeline", False)
        return Finding("final pipeline", "none on our indices")

    async def _room_for_days(self) -> list[Finding]:
        """A cluster that holds as many shards as it may makes no index at midnight."""
        limits = await self._ask(
            "GET", "/_cluster/settings?include_defaults=true&filter_path=*.cluster.max_shards_per_node"
        )
        health = await self._ask("GET", "/_cluster/health")
        if limits.status != 200 or health.status != 200:
            # They take permissions for the whole cluster that a role need not have.
            return []
        found, of_kind = health.json(), limits.json()
        kinds = (of_kind.get(kind, {}).get("cluster", {}) for kind in ("transient", "persistent", "defaults"))
        limit = next((kind["max_shards_per_node"] for kind in kinds if "max_shards_per_node" in kind), 0)
        most = int(limit) * found["number_of_data_nodes"]
        shards = found["active_shards"] + found["unassigned_shards"] + found["initializing_shards"]
        said = f"{shards} of {most} that the cluster may hold"
        if shards + SHARDS_OF_DAYS <= most or not most:
            return [Finding("shards", said, needed=False)]
        mend = "delete old indices, add a node or raise cluster.max_shards_per_node: soon no day can begin"
        return [Finding("shards", said, mend, needed=False)]

    async def _policy(self) -> Finding:
        answer = await self._ask("GET", f"/_plugins/_ism/policies/{self._names.prefix}")
        if answer.status == 200:
            return Finding("retention", "the policy is there", needed=False)
        if answer.status == 404:
            return Finding("retention", "there is no policy: days are kept for ever", INIT, needed=False)
        mend = "install the plugin Index State Management, or delete old days yourself"
        return Finding("retention", f"no policies here ({_said(answer)})", mend, needed=False)

    def _credentials(self) -> str:
        if self._connection.named:
            return "correct the user, its password or its permissions"
        return "set locations.opensearch_user and its password, a certificate, or opensearch_sign_region"

    async def init(self) -> list[Change]:
        """Make or renew everything; harmless when called again. Raises ClusterError when one is refused."""
        names = self._names
        await self.version()
        template, pipeline = definitions.template(names), definitions.pipeline(names)
        return [
            await self._put(f"/_ingest/pipeline/{names.overflow}", "ingest pipeline", pipeline, _version_of_pipeline),
            await self._put(f"/_index_template/{names.prefix}", "index template", template, _version_of_template),
            await self._make_index(names.overflow, definitions.overflow_index(names)),
            await self._make_index(names.latest, definitions.latest_index()),
            await self._make_index(names.connections, definitions.connections_index()),
            await self._put_policy(),
        ]

    async def _put(self, path: str, name: str, body: Any, version: Any) -> Change:
        before = await self._ask("GET", path)
        known = version(before.json()) if before.status == 200 else None
        if known == VERSION and _same(before.json(), body):
            return Change(name, "unchanged")
        if isinstance(known, int) and known > VERSION:
            return Change(name, f"unchanged: version {known} is of a newer program")
        answer = await self._ask("PUT", path, body)
        if answer.status != 200:
            raise ClusterError(f"{name}: {_said(answer)}")
        return Change(name, "made" if before.status == 404 else "changed")

    async def _make_index(self, index: str, body: Any) -> Change:
        answer = await self._ask("PUT", f"/{index}", body)
        if answer.status == 200:
            return Change(f"index {index}", "made")
        if _type(answer) == "resource_already_exists_exception":
            return Change(f"index {index}", "unchanged")
        raise ClusterError(f"index {index}: {_said(answer)}")

    async def _put_policy(self) -> Change:
        """Never a reason to fail: a cluster without the plugin keeps its days."""
        path, body = (
            f"/_plugins/_ism/policies/{self._names.prefix}",
            definitions.retention_policy(self._names, self._days),
        )
        before = await self._ask("GET", path)
        if before.status == 200:
            found = before.json()
            if _holds(found.get("policy"), body["policy"]):
                return Change("retention policy", "unchanged")
            path += f"?if_seq_no={found.get('_seq_no')}&if_primary_term={found.get('_primary_term')}"
        answer = await self._ask("PUT", path, body)
        if answer.status in (200, 201):
            return Change("retention policy", "changed" if before.status == 200 else "made")
        return Change("retention policy", f"not possible here: {_said(answer)}")

    async def _ask(self, method: str, path: str, body: Any = None) -> Response:
        path, _, query = path.partition("?")
        pairs = dict(part.split("=") for part in query.split("&")) if query else None
        try:
            encoded = None if body is None else json.encode(body)
            answer = await self._connection.request(method, path, encoded, query=pairs, compress=False)
        except NoAnswerError as error:
            raise UnreachableError(f"OpenSearch: {error}") from error
        if answer.status in _AWAY:
            raise UnreachableError(f"OpenSearch: {self._connection.where} answered {_said(answer)}")
        if answer.status == 200 and not isinstance(answer.json(), dict):
            raise ClusterError(f"{self._connection.where} is not OpenSearch: it answered {path} with no JSON object")
        return answer


@contextmanager
def _understood(where: str) -> Iterator[None]:
    """Whoever answers in another shape than OpenSearch does is not OpenSearch. Raises ClusterError."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise ClusterError(f"{where} is not OpenSearch: it gave no usable answer ({type(error).__name__})") from error


def _maps(found: Any, wanted: Mapping[str, Any]) -> bool:
    """Whether a template's mappings are the wanted ones."""
    template = found["index_templates"][0]["index_template"].get("template", {})
    return _holds(template.get("mappings"), wanted)


def _wrong(fields: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """The first field of another kind; "" when all are well."""
    if "account" not in fields:
        return "account is missing"
    wrong = (name for name, field in fields.items() if name in wanted and _kind(field) != _kind(wanted[name]))
    return next((f"{name} is {_kind(fields[name])}" for name in wrong), "")


def _kind(field: Mapping[str, Any]) -> str:
    return str(field.get("type", "object"))


def _version_of_template(found: Any) -> Any:
    return found["index_templates"][0]["index_template"].get("version")


def _version_of_pipeline(found: Any) -> Any:
    return next(iter(found.values())).get("version")


def _same(found: Any, wanted: Any) -> bool:
    """Whether the answer holds what was put; it is wrapped in its name."""
    inner = found["index_templates"][0]["index_template"] if "index_templates" in found else next(iter(found.values()))
    return _holds(inner, wanted)


def _holds(found: Any, wanted: Any) -> bool:
    """Whether `found` has everything of `wanted`, and maybe more."""
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(_holds(found.get(name), value) for name, value in wanted.items())
    if isinstance(wanted, list):
        return (
            isinstance(found, list)
            and len(found) == len(wanted)
            and all(_holds(one, other) for one, other in zip(found, wanted, strict=True))
        )
    return bool(found == wanted or str(found).lower() == str(wanted).lower())


def _type(answer: Response) -> str:
    found = answer.json()
    error = found.get("error") if isinstance(found, dict) else None
    return str(error.get("type", "")) if isinstance(error, dict) else ""


def _said(answer: Response) -> str:
    found = answer.json()
    error = found.get("error") if isinstance(found, dict) else answer.body.decode(errors="replace")
    reason = error.get("reason") if isinstance(error, dict) else error
    return f"HTTP {answer.status}: {str(reason or 'no reason given')[:200]}"
