"""For programs that are jobs of workflows: say that they begin, how far they are, and how they ended.

This file needs nothing but Python's standard library and nothing else of this program: copy it into a job's image.

    from job import Attempt

    attempt = Attempt.of_environment()
    if attempt is None or attempt.start():
        for done, table in enumerate(tables, 1):
            load(table)
            if attempt and not attempt.report(100 * done / len(tables), table):
                sys.exit("nobody waits for it any more")
        if attempt:
            attempt.done({"tables": len(tables)})
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

TIMEOUT_S = 10.0
# A gateway that is replaced is away for a moment.
TRIES = 8
PAUSE_S = 0.5


class JobError(Exception):
    """The gateway refused; `status` is its answer's, 0 where it could not be reached."""

    def __init__(self, said: str, status: int = 0) -> None:
        super().__init__(said)
        self.status = status


class Attempt(NamedTuple):
    """One attempt of a node. `job` tells two jobs of one attempt apart. All calls block, and raise JobError."""

    url: str
    name: str
    secret: str
    job: str

    @classmethod
    def of_environment(cls, environment: Mapping[str, str] = os.environ) -> Attempt | None:
        """The attempt that this process was begun for; None: for none, or nobody listens to jobs."""
        url, name = environment.get("HEIWA_JOBS_URL"), environment.get("HEIWA_ATTEMPT")
        secret = environment.get("HEIWA_ATTEMPT_SECRET")
        if not url or not name or not secret:
            return None
        return cls(url.rstrip("/"), name, secret, _job(environment))

    def start(self) -> bool:
        """Whether this job is to work. If not, end it, and well: another one works on it, or nobody wants it."""
        return bool(self._post("start", {"job": self.job})["start"])

    def report(self, percent: float | None = None, message: str | None = None) -> bool:
        """Say how far it is; False: nobody waits for it any more. A report that cannot be delivered is no failure."""
        body = {"job": self.job, "percent": percent, "message": message and message[:500]}
        try:
            return bool(self._post("report", body, tries=1)["wanted"])
        except JobError as error:
            if error.status in (0, 429, 503):
                return True
            raise

    def done(self, value: Mapping[str, Any] | None = None) -> bool:
        """It ended well; `value` is the node's result. False: how it ended is known already."""
        return bool(self._post("finish", {"job": self.job, "ok": True, "value": dict(value or {})})["taken"])

    def fail(self, error: str, *, again: bool = True) -> bool:
        """It failed; not `again`: it would fail the same way again. False: how it ended is known already."""
        body = {"job": self.job, "ok": False, "error": error[:2_000], "again": again}
        return bool(self._post("finish", body)["taken"])

    def _post(self, verb: str, body: Mapping[str, Any], tries: int = TRIES) -> Any:
        request = urllib.request.Request(  # noqa: S310 - the address is the operator's
            f"{self.url}/api/v1/attempts/{self.name}/{verb}",
            json.dumps(body).encode(),
            {"Authorization": f"Bearer {self.secret}", "Content-Type": "application/json"},
            method="POST",
        )
        # No proxy and no redirect: the secret is for this address only.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirects())
        for left in reversed(range(tries)):
            try:
                with opener.open(request, timeout=TIMEOUT_S) as answer:
                    return json.load(answer)
            except urllib.error.HTTPError as error:
                if error.code not in (429, 503) or not left:
                    raise JobError(f"{verb}: status {error.code}: {_detail(error)}", error.code) from None
            except (OSError, ValueError) as error:
                if not left:
                    raise JobError(f"{verb}: {self.url} cannot be reached: {error}") from None
            time.sleep(min(8.0, PAUSE_S * 2 ** (tries - 1 - left)))
        raise AssertionError


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


def _detail(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.load(error)["detail"])
    except (ValueError, OSError, KeyError, TypeError):
        return str(error.reason)


def _job(environment: Mapping[str, str]) -> str:
    """The same for all processes of one job, and another one for each job."""
    if environment.get("HEIWA_JOB"):
        return environment["HEIWA_JOB"]
    batch = environment.get("AWS_BATCH_JOB_ID")
    if batch:
        return batch
    task = environment.get("ECS_CONTAINER_METADATA_URI_V4")
    if task:
        with urllib.request.urlopen(f"{task}/task", timeout=TIMEOUT_S) as answer:  # noqa: S310 - of the ECS agent
            return str(json.load(answer)["TaskARN"])
    # A job on a machine has a session of its own.
    told = f"{_boot()} {socket.gethostname()} {os.getsid(0)}"
    return hashlib.sha256(told.encode()).hexdigest()[:32]


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""
