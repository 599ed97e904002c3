"""The settings of workflows: what moves runs on, what does the work of nodes, and what an account may use of it."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct


class Workflows(Struct, frozen=True):
    runners: Annotated[
        str,
        Meta(
            description="What may do the work of nodes (commas): `device`, a command to a device; `process`, a program "
            "on this machine: for definitions put with the scope `admin` only; `http`, a request to a public address; "
            "`batch` and `ecs`, jobs of AWS, of what `workflow_accounts` lists."
        ),
    ] = "device"
    store_url: Annotated[
        str,
        Meta(
            description="`sqlite:///PATH` or `postgresql+asyncpg://USER@HOST/DATABASE`, whose password comes from the "
            "environment (PGPASSWORD) or a password file; empty: `workflows.db` in the data folder."
        ),
    ] = ""
    http_networks: Annotated[
        str, Meta(description="Networks (CIDR, commas) that requests may go to although they are not public.")
    ] = ""
    jobs_url: Annotated[
        str,
        Meta(
            description="Where jobs reach `listen.jobs`: `http://heiwa.internal:8082`, or `https://…` of a proxy in "
            "front; empty: its own address."
        ),
    ] = ""
    ecs_launch_type: Annotated[
        Literal["", "FARGATE", "EC2", "EXTERNAL"], Meta(description="Of tasks; empty: as the cluster says.")
    ] = ""
    ecs_subnets: Annotated[
        str, Meta(description="Subnets (commas) for tasks with a network of their own, as on Fargate.")
    ] = ""
    ecs_security_groups: Annotated[str, Meta(description="Their security groups (commas).")] = ""
    process_user: Annotated[
        str, Meta(description="Whom processes run as where this program runs as root; empty: nobody.")
    ] = ""
    process_maximum: Annotated[
        int,
        Meta(
            ge=1,
            le=10_000,
            description="Processes that a manager begins at a time; the others wait, and accounts take turns. Each "
            "takes a file of the gateway's.",
        ),
    ] = 200
    process_memory_bytes: Annotated[
        int, Meta(ge=0, description="Address space that a process may have; 0: no limit.")
    ] = 2 * 2**30
    retention_days: Annotated[
        int, Meta(ge=1, le=3650, description="Days for which runs and their events are kept behind their end.")
    ] = 30
    live_runs: Annotated[
        int,
        Meta(
            ge=1,
            le=10_000_000,
            description="Runs of one account that are not over, nested ones included. More do not begin: a caller is "
            "answered 429, and a node that would begin one fails.",
        ),
    ] = 200_000
    lease_s: Annotated[
        float,
        Meta(
            ge=0.5,
            le=600,
            description="With PostgreSQL: how long after its last sign of life another manager takes over for one. It "
            "gives that sign six times as often.",
        ),
    ] = 30
    death_hint: Annotated[
        bool,
        Meta(
            description="With PostgreSQL: each manager holds a session lock on a connection of its own, by which its "
            "death is seen in 2 s. Off by itself where a pooler stands between."
        ),
    ] = True
    cache_bytes: Annotated[
        int, Meta(ge=1_048_576, description="Memory for runs at work; those that wait take none of it.")
    ] = 64 * 2**20


class WorkflowAccount(Struct, frozen=True):
    """What the nodes of one account may use; nothing that is not listed."""

    batch_queues: Annotated[
        str, Meta(description="Job queues of AWS Batch (names or ARNs, commas) for the account's nodes.")
    ] = ""
    batch_job_definitions: Annotated[
        str, Meta(description="Job definitions; without a revision: all of its revisions.")
    ] = ""
    ecs_clusters: Annotated[str, Meta(description="Clusters of Amazon ECS (names or ARNs, commas).")] = ""
    ecs_task_definitions: Annotated[
        str,
        Meta(description="Task definitions, as above. A node chooses the command: it can do what the task's role can."),
    ] = ""
