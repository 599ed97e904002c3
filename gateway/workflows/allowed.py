"""Which queues, job definitions, clusters and task definitions the nodes of an account may use. Pure.

What is not listed for an account is refused, and what a definition names by an expression is looked at again when it
has its value: an input is a tenant's, too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

# Which lists of the settings bound which fields of a node.
BATCH = {"queue": "batch_queues", "job_definition": "batch_job_definitions"}
ECS = {"cluster": "ecs_clusters", "task_definition": "ecs_task_definitions"}
_REVISION = re.compile(r"[0-9]{1,10}")


def problem(
    account: str,
    work: Mapping[str, Any],
    fields: Mapping[str, str],
    lists: Mapping[str, Sequence[str]],
    *,
    final: bool,
) -> str:
    """What `account` may not use of what `work` names; "": nothing. `lists` are the account's, by name.

    Not `final`: expressions have no value yet.
    """
    for field, name in fields.items():
        wanted = str(work[field])
        if "${" in wanted and not final:
            continue
        if not any(_is(wanted, listed) for listed in lists.get(name, ())):
            return f"{field}: {wanted!r} is not listed for the account {account!r} (workflow_accounts.{account}.{name})"
    return ""


def _is(wanted: str, listed: str) -> bool:
    """The same, or a revision of it where no revision is listed."""
    if wanted == listed:
        return True
    name, separator, revision = wanted.rpartition(":")
    return bool(separator) and name == listed and _REVISION.fullmatch(revision) is not None


def names(text: str) -> tuple[str, ...]:
    """What a setting lists, with commas."""
    return tuple(part.strip() for part in text.split(",") if part.strip())
