"""Every error this program raises on purpose.

A driver's exception is turned into one of these once, at the adapter's edge, with `from`. The command line prints the
message and ends with `exit_code`; a message names what was wrong, where it was set, and how to mend it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any


class CallErrorKind(StrEnum):
    """Why a service of the cloud (load balancer, ECS, Firehose) could not be used; the label `class` of its metrics."""

    THROTTLED = "throttled"
    DENIED = "denied"
    EXPIRED = "expired"
    UNREACHABLE = "unreachable"
    NOT_FOUND = "not_found"
    OTHER = "other"


class HeiwaError(Exception):
    """Base of all of them. `exit_code` is what the command ends with when it is not handled."""

    exit_code = 1


class SettingsError(HeiwaError):
    """A setting is unknown, misspelt or out of range; `key` is its dotted name ("": the file itself)."""

    exit_code = 2

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"{key}: {problem}" if key else problem)
        self.key = key


class ListenError(HeiwaError):
    """An address cannot be listened on."""


class UnreachableError(HeiwaError):
    """A server that a setting names does not answer."""

    exit_code = 3


class RefusedError(HeiwaError):
    """A gateway that runs will not do what was asked of it.

    `status` is that of its HTTP answer, 0 where there was none; `errors` are the fields at fault, as its problem names
    them (RFC 9457).
    """

    def __init__(self, problem: str, status: int = 0, errors: Sequence[Mapping[str, Any]] = ()) -> None:
        super().__init__(problem)
        self.status = status
        self.errors = errors


class SchemaError(HeiwaError):
    """A store was written by a newer version of this program."""

    exit_code = 4


class DataFolderError(HeiwaError):
    """The data folder cannot be made, written, or is in use by another process."""


class StoreError(HeiwaError):
    """A store on disk cannot be read or written: full, read-only or damaged. Nothing of the batch was acknowledged."""


class DamagedStoreError(StoreError):
    """The content of a file on disk is at fault, not its place."""


class AttemptTakenError(StoreError):
    """An attempt of a workflow that was to begin is there already: somebody else moves the run on, too."""


class UnstorableError(StoreError):
    """A store is well, but what it was given cannot be kept: it would refuse the same again."""


class TooManyReportsError(HeiwaError):
    """More attempts of workflows report their progress than are kept until it is stored."""


class TooManyRunsError(HeiwaError):
    """An account has as many live runs of workflows as it may (`workflows.live_runs`)."""


class ManagerReplacedError(HeiwaError):
    """Another process manages workflows under our name: this one must not go on."""


class SpoolFullError(StoreError):
    """The spool has reached `locations.spool_max_bytes`."""


class UnsignedError(StoreError):
    """The credentials to sign a request with cannot be had for the moment."""


class IndexBusyError(StoreError):
    """A location index refuses searches for the moment; the same search may be sent again after `retry_after_s`."""

    def __init__(self, problem: str, retry_after_s: int) -> None:
        super().__init__(problem)
        self.retry_after_s = retry_after_s


class ClusterError(HeiwaError):
    """A search cluster answers, but is not what we need: another product or version, not set up, or not for us."""


class QueryError(HeiwaError):
    """A search asks for something impossible; `field` is the parameter at fault."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


class QueryTooWideError(QueryError):
    """A search would cost more than one may."""

    def __init__(self, problem: str) -> None:
        super().__init__("query", problem)


class TokenError(HeiwaError):
    """A token is missing, malformed, expired or not meant for us. The message never contains the token."""


class KeysUnknownError(TokenError):
    """No token can be checked at the moment: the keys of the issuer are not known. It says nothing about the token."""


class KeySetError(HeiwaError):
    """The key set of an issuer cannot be read or used; known keys stay. The message quotes nothing of it."""

    exit_code = 3


class RecordingError(HeiwaError):
    """A recording cannot be read: it is no recording, of another version, or damaged."""

    exit_code = 2


class CallError(HeiwaError):
    """A service of the cloud did not answer, or not with what was asked for. Of the load balancer never a reason to
    drain."""

    def __init__(self, kind: CallErrorKind, problem: str) -> None:
        super().__init__(problem)
        self.kind = kind


class BrokerDownError(HeiwaError):
    """Other gateways cannot be reached now. `sent`: what was asked for may have happened all the same."""

    exit_code = 3

    def __init__(self, problem: str, *, sent: bool = False) -> None:
        super().__init__(problem)
        self.sent = sent


class KeyReusedError(HeiwaError):
    """An idempotency key came with another request than before."""


class IllegalTransitionError(HeiwaError):
    """A state machine was told of something that cannot happen in its state; nothing has changed."""


class TaskFailedError(HeiwaError):
    """A background task ended although it must not; the cause is its exception."""
