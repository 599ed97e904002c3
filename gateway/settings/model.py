"""Every setting with its default, its bounds and what it is for. The reference page in docs/ is made from this file."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from gateway.settings.device_classes import PRESETS, DeviceClass
from gateway.settings.workflows import WorkflowAccount, Workflows

# Never in a file that is checked in, in an argument list or in an answer.
SECRETS = frozenset({"auth.secret", "broker.password", "locations.opensearch_password"})
Seconds = Annotated[float, Meta(gt=0, le=86_400)]


class Serve(Struct, frozen=True):
    roles: Annotated[
        str,
        Meta(
            description="What this process is (commas): `gateway` holds devices, `manager` moves workflows on, "
            "`rebalancer` says which manager has which runs. Without `gateway` they need PostgreSQL as their store."
        ),
    ] = "gateway,manager,rebalancer"


class Data(Struct, frozen=True):
    folder: Annotated[
        str,
        Meta(
            min_length=1,
            description="Key, SQLite files, spool, dead letters; made at first start (0700), locked by one process.",
        ),
    ] = "heiwa-data"


class Listen(Struct, frozen=True):
    public: Annotated[
        str,
        Meta(description="Where devices connect: `host:port`, several with commas; port 0 picks one and prints it."),
    ] = "127.0.0.1:8080"
    operations: Annotated[
        str, Meta(description="HTTP API and metrics; the same form. Never expose it to the internet.")
    ] = "127.0.0.1:8081"
    operations_maximum: Annotated[
        int,
        Meta(
            ge=0,
            le=10_000,
            description="Connections of the operations listener; 0: a quarter of `connections.file_reserve`.",
        ),
    ] = 0
    jobs: Annotated[
        str,
        Meta(
            description="Where jobs of workflows say that they begin, how far they are and how they ended; the same "
            "form. Empty: nowhere. Jobs and services that call back need to reach it, nobody else."
        ),
    ] = ""
    jobs_maximum: Annotated[int, Meta(ge=1, le=10_000, description="Connections of that listener.")] = 256
    reuse_port: Annotated[bool, Meta(description="SO_REUSEPORT: several gateways on one address.")] = False
    backlog: Annotated[
        int,
        Meta(
            ge=1,
            le=65_535,
            description="Connections the kernel holds until they are accepted (capped by net.core.somaxconn).",
        ),
    ] = 4096
    tls_certificate_file: Annotated[
        str, Meta(description="PEM chain; with it the public listener speaks TLS (25 KB more a connection).")
    ] = ""
    tls_key_file: Annotated[str, Meta(description="PEM key of the certificate.")] = ""
    trusted_proxies: Annotated[
        str,
        Meta(description="Networks (CIDR, commas) whose X-Forwarded-For or PROXY header is believed; none by default."),
    ] = ""
    proxy_protocol: Annotated[
        bool, Meta(description="Expect a PROXY protocol header (v1 or v2) from trusted proxies.")
    ] = False
    allowed_origins: Annotated[
        str,
        Meta(
            description="Origins (commas, no wildcard) from which browsers may connect, as `https://app.example.com`. "
            "A handshake with the token in a subprotocol and any other Origin gets 403."
        ),
    ] = ""
    handshake_timeout_s: Annotated[Seconds, Meta(description="From accept to the end of the request.")] = 10


class Auth(Struct, frozen=True):
    secret: Annotated[
        str, Meta(description="The shared secret itself, from the environment only: ECS and others put it there.")
    ] = ""
    secret_file: Annotated[
        str,
        Meta(
            description="Shared secret for HS256, at least 32 bytes. With no key set, one is made in the data folder; "
            "behind a load balancer a start without a key is refused."
        ),
    ] = ""
    public_key_file: Annotated[
        str, Meta(description="PEM public key: EC P-256 (ES256), RSA (RS256) or Ed25519 (EdDSA).")
    ] = ""
    jwks_url: Annotated[
        str,
        Meta(description="Address (https) of the issuer's JSON Web Key Set; its keys are read again every 5 minutes."),
    ] = ""
    jwks_max_stale_h: Annotated[
        float, Meta(gt=0, le=8760, description="How long known keys count while `auth.jwks_url` cannot be read.")
    ] = 24
    issuer: Annotated[str, Meta(description="Required `iss`; empty: not checked.")] = ""
    audience: Annotated[str, Meta(description="Required `aud`; empty: not checked.")] = ""
    leeway_s: Annotated[float, Meta(ge=0, le=3600, description="How far clocks may differ for `exp` and `nbf`.")] = 30


class Connections(Struct, frozen=True):
    maximum: Annotated[
        int,
        Meta(
            ge=0,
            description="Websockets; 0: the file limit less `file_reserve`, `http_maximum` and files of the index.",
        ),
    ] = 0
    file_reserve: Annotated[
        int, Meta(ge=8, le=10_000, description="Files kept free for stores, logs and refusals.")
    ] = 64
    maximum_per_account: Annotated[int, Meta(ge=0, description="Connections of one account; 0: no limit.")] = 0
    heartbeat_s: Annotated[
        float,
        Meta(
            ge=0.1,
            le=3600,
            description="Silence after which a peer is pinged; after twice that it is taken for dead. Keep it below "
            "the idle times of the balancer and of the clients.",
        ),
    ] = 45
    max_message_bytes: Annotated[
        int, Meta(ge=1024, le=16_777_216, description="Largest message; a larger one closes with 1009.")
    ] = 131_072
    max_age_h: Annotated[
        str,
        Meta(
            pattern=r"^(0|[0-9]+(\.[0-9]+)?-[0-9]+(\.[0-9]+)?)$",
            description="Age at which a connection is asked to reconnect, drawn from this range for each; 0: never.",
        ),
    ] = "24-36"
    handshakes_per_s: Annotated[
        float, Meta(ge=0, description="Handshakes admitted a second, before any token is verified; 0: no limit.")
    ] = 0
    handshakes_pending: Annotated[
        int, Meta(ge=1, description="Connections at once that have not finished their handshake.")
    ] = 4096
    memory_watermark: Annotated[
        float, Meta(gt=0, le=1, description="Share of the memory limit above which new connections are refused.")
    ] = 0.85
    memory_limit_bytes: Annotated[
        int, Meta(ge=0, description="The memory limit; 0: the cgroup's, else the machine's.")
    ] = 0
    duplicates: Annotated[
        Literal["replace", "reject", "allow"],
        Meta(description="A second connection of one device: the newer wins, is refused (409), or both stay."),
    ] = "replace"
    messages_per_s: Annotated[
        float,
        Meta(ge=0, description="Messages a second of one connection, and events of one device over HTTP; 0: no limit."),
    ] = 50
    messages_burst: Annotated[int, Meta(ge=1, description="Messages at once above that rate.")] = 500
    bytes_per_s: Annotated[
        float,
        Meta(
            ge=0,
            description="Bytes a second of one connection, or of one device over HTTP; 0: no limit.",
        ),
    ] = 262_144
    outbound_max_bytes: Annotated[
        int, Meta(ge=1024, description="Unsent bytes of one connection; above it the consumer is too slow: 4503.")
    ] = 262_144
    send_buffer_bytes: Annotated[
        int, Meta(ge=2048, le=2**30, description="SO_SNDBUF: small, so that a slow consumer shows early.")
    ] = 16_384
    close_timeout_s: Annotated[Seconds, Meta(description="From our close frame to the end of the connection.")] = 5
    flap_limit: Annotated[
        int, Meta(ge=0, description="Connects a minute of one device before it is held off; 0: no limit.")
    ] = 10
    flap_holdoff_s: Annotated[
        Seconds,
        Meta(description="How long a device that flaps, or that was reset for what it sent, is refused with 429."),
    ] = 60
    http_maximum: Annotated[
        int,
        Meta(
            ge=1,
            description="HTTP connections (all but websockets) of the public listener; a quarter of the files at most. "
            "Above it only `/livez` and `/readyz` are answered.",
        ),
    ] = 256
    compression: Annotated[
        bool, Meta(description="permessage-deflate: less traffic, much more memory a connection.")
    ] = False


class Drain(Struct, frozen=True):
    enabled: Annotated[
        bool, Meta(description="Follow the load balancer; false: only SIGTERM, SIGUSR1 and the API begin a drain.")
    ] = True
    target_group_arns: Annotated[
        str, Meta(description="Target groups (ARNs, commas) that this process is in; empty: those of its ECS service.")
    ] = ""
    target: Annotated[
        str,
        Meta(
            description="Where the groups list this process: `10.0.1.7:8080`, `[2001:db8::7]:8080` or `i-0abc:32768`; "
            "empty: as ECS says.",
        ),
    ] = ""
    window_s: Annotated[
        float,
        Meta(
            ge=0,
            le=86_400,
            description="Over how long the closes are spread; 0: deregistration delay − margin − 1.2 poll periods.",
        ),
    ] = 0
    margin_s: Annotated[
        float,
        Meta(
            ge=0,
            le=3600,
            description="Kept free at the end of the delay; at least twice `connections.close_timeout_s`.",
        ),
    ] = 15
    min_receivers: Annotated[
        int,
        Meta(ge=0, description="Healthy targets to wait for before the first close, a tenth of the window at most."),
    ] = 1
    receivers: Annotated[
        int,
        Meta(ge=0, description="Targets that share the reconnects; 0: all healthy; 1 with least outstanding requests."),
    ] = 0
    receiver_handshakes_per_s: Annotated[
        float, Meta(ge=0, description="Reconnects a second that each of them takes calmly; 0: no bound.")
    ] = 200
    follow_weights: Annotated[
        bool,
        Meta(
            description="In a canary, linear or blue/green deploy of ECS, connections follow the weights; false: "
            "they stay until the old tasks drain."
        ),
    ] = True
    shift_hops: Annotated[
        float,
        Meta(
            ge=0,
            le=2,
            description="Closes that following the weights may cost a device, beyond one: the budget of a deployment.",
        ),
    ] = 0.25
    stop_timeout_s: Annotated[
        Seconds,
        Meta(description="From SIGTERM to SIGKILL (ECS stopTimeout); 30 gives way to what the task definition says."),
    ] = 30
    speed: Annotated[
        float,
        Meta(ge=1, le=1000, description="For rehearsals only: all periods of a drain pass this many times faster."),
    ] = 1


class Locations(Struct, frozen=True):
    opensearch_url: Annotated[
        str,
        Meta(description="OpenSearch 2 or 3 as the index, `https://host:9200`; empty: the embedded one."),
    ] = ""
    opensearch_user: Annotated[str, Meta(description="For basic authentication.")] = ""
    opensearch_password: Annotated[str, Meta(description="Its password, from the environment only.")] = ""
    opensearch_password_file: Annotated[str, Meta(description="A file with the password, instead.")] = ""
    opensearch_ca_file: Annotated[str, Meta(description="PEM certificates to believe; empty: the system's.")] = ""
    opensearch_certificate_file: Annotated[str, Meta(description="PEM chain of our own, for mutual TLS.")] = ""
    opensearch_key_file: Annotated[str, Meta(description="PEM key of that certificate.")] = ""
    opensearch_sign_region: Annotated[
        str, Meta(description="Sign requests (SigV4) for this region of AWS, with the task's credentials.")
    ] = ""
    opensearch_sign_service: Annotated[
        Literal["es", "aoss"], Meta(description="`es`: a domain; `aoss`: a serverless collection (not tried).")
    ] = "es"
    opensearch_timeout_s: Annotated[
        Seconds, Meta(description="How long a request may take; what was sent then overflows, with the same identity.")
    ] = 10
    opensearch_gzip: Annotated[
        bool, Meta(description="Compress requests: a fifth of the bytes for 2 µs more of CPU an event.")
    ] = False
    index_prefix: Annotated[
        str, Meta(min_length=1, max_length=100, description="Begins the names of all indices in OpenSearch.")
    ] = "locations"
    firehose_stream: Annotated[
        str, Meta(description="Stream of Amazon Data Firehose for what OpenSearch refuses; empty: the spool.")
    ] = ""
    firehose_bytes_per_s: Annotated[
        int, Meta(ge=0, description="Its quota; 0: AWS's for the region (5 MiB in the large ones, 1 MiB elsewhere).")
    ] = 0
    ack_min: Annotated[
        Literal["indexed", "firehose", "spooled"],
        Meta(
            description="The minimum durability that is acknowledged; with `indexed` nothing overflows, with "
            "`firehose` nothing is spooled."
        ),
    ] = "spooled"
    spool_max_bytes: Annotated[
        int, Meta(ge=1_048_576, description="Size of the spool; when full, events are refused.")
    ] = 8 * 2**30
    retention_days: Annotated[int, Meta(ge=1, le=3650, description="Days kept; in OpenSearch by its ISM policy.")] = 30
    index_max_bytes: Annotated[
        int, Meta(ge=1_048_576, description="Total size of the embedded index; the oldest days go first.")
    ] = 10 * 2**30
    account_max_bytes: Annotated[
        int,
        Meta(
            ge=0,
            description="What one account may take of the index before it is refused; 0: no limit. Set it where one "
            "account must not push out the others' days.",
        ),
    ] = 0


class Log(Struct, frozen=True):
    level: Annotated[Literal["debug", "info", "warning", "error"], Meta(description="Lowest level written.")] = "info"
    format: Annotated[
        Literal["auto", "json", "text"], Meta(description="`auto`: text on a terminal, JSON lines otherwise.")
    ] = "auto"


class Broker(Struct, frozen=True):
    url: Annotated[
        str,
        Meta(
            description="Redis or Valkey through which several gateways find and reach each other: "
            "`redis://host:6379`, `rediss://host:6379` (TLS) or `unix:///path`; empty: this is the only gateway."
        ),
    ] = ""
    user: Annotated[str, Meta(description="For its ACL; empty: the default user.")] = ""
    password: Annotated[str, Meta(description="Its password, from the environment only.")] = ""
    password_file: Annotated[str, Meta(description="A file with the password, instead.")] = ""
    ca_file: Annotated[str, Meta(description="PEM certificates to believe; empty: the system's.")] = ""
    prefix: Annotated[
        str,
        Meta(
            pattern=r"^[A-Za-z0-9_.-]{1,64}$",
            description="Begins all its keys and channels, as `{heiwa}:…`: one a fleet where several share a server.",
        ),
    ] = "heiwa"


class Commands(Struct, frozen=True):
    in_flight_per_device: Annotated[
        int, Meta(ge=0, le=1000, description="Commands without a result that one device may have; 0: none are sent.")
    ] = 16
    in_flight_per_sender: Annotated[
        int,
        Meta(ge=0, le=10_000, description="Commands without a result that one websocket may have sent; 0: none."),
    ] = 64


class Channels(Struct, frozen=True):
    maximum_per_connection: Annotated[
        int, Meta(ge=0, le=10_000, description="Channels that one connection may be subscribed to.")
    ] = 100


class Telemetry(Struct, frozen=True):
    emf: Annotated[
        bool,
        Meta(
            description="One line a minute in the log, from which CloudWatch makes metrics (embedded metric format); "
            "the page of metrics lists them."
        ),
    ] = False
    service: Annotated[
        str, Meta(min_length=1, max_length=255, description="Their dimension `service`: one name for all tasks.")
    ] = "heiwa"
    revision: Annotated[
        str,
        Meta(max_length=255, description="Their dimension `revision`; empty, for the guard: the task definition's."),
    ] = ""


class Settings(Struct, frozen=True):
    serve: Serve = field(default_factory=Serve)
    data: Data = field(default_factory=Data)
    listen: Listen = field(default_factory=Listen)
    auth: Auth = field(default_factory=Auth)
    connections: Connections = field(default_factory=Connections)
    device_classes: dict[str, DeviceClass] = field(default_factory=lambda: dict(PRESETS))
    drain: Drain = field(default_factory=Drain)
    locations: Locations = field(default_factory=Locations)
    broker: Broker = field(default_factory=Broker)
    commands: Commands = field(default_factory=Commands)
    channels: Channels = field(default_factory=Channels)
    log: Log = field(default_factory=Log)
    workflows: Workflows = field(default_factory=Workflows)
    workflow_accounts: dict[str, WorkflowAccount] = field(default_factory=dict)
    telemetry: Telemetry = field(default_factory=Telemetry)
