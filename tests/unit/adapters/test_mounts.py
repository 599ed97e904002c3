"""Which folders go with a container, by lines as kernels, podman and docker write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.adapters.mounts import Mount, loss, loss_of, mount_of

VOLUME = "ab12" * 16
TABLE = f"""\
609 517 0:56 / / ro,relatime - overlay overlay rw,lowerdir=/var/lib/containers/storage/overlay/l/X
610 609 0:59 / /proc rw,nosuid - proc proc rw
611 609 254:0 /var/lib/containers/storage/volumes/{VOLUME}/_data /data rw,relatime master:1 - ext4 /dev/root rw
612 609 254:0 /var/lib/containers/storage/volumes/heiwa-data/_data /named rw,relatime - ext4 /dev/root rw
613 609 0:60 / /memory rw - tmpfs tmpfs rw,size=64m
614 609 0:61 / /a\\040b rw - ext4 /dev/sdb rw
615 612 0:62 / /named/deeper rw shared:7 - tmpfs tmpfs rw
616 609 0:63 / /hidden rw - tmpfs tmpfs rw
617 609 254:0 /srv /hidden rw - ext4 /dev/root rw
a line that is none
"""


@pytest.mark.parametrize(
    ("folder", "lost_with"),
    [
        ("/var/lib/heiwa", "the container"),
        ("/data", "the container, when it was run with --rm: the volume has no name"),
        ("/data/locations", "the container, when it was run with --rm: the volume has no name"),
        ("/database", "the container"),
        ("/named", None),
        ("/named/deeper", "the memory that it is in"),
        ("/memory/x", "the memory that it is in"),
        ("/a b/x", None),
        ("/hidden/x", None),
    ],
)
def test_what_takes_a_folder_with_it(folder: str, lost_with: str | None) -> None:
    mount = mount_of(Path(folder), TABLE)
    assert mount is not None
    found = loss(mount, {})
    assert (found and found.lost_with) == lost_with


@pytest.mark.parametrize("mount", [Mount("/", "/data", "ext4"), Mount("/", "/", "overlay")])
def test_all_disks_of_fargate_go_with_the_task(mount: Mount) -> None:
    found = loss(mount, {"AWS_EXECUTION_ENV": "AWS_ECS_FARGATE"})
    assert found is not None
    assert "Fargate" in found.lost_with
    assert "locations.opensearch_url" in found.mend
    assert loss(mount, {"AWS_EXECUTION_ENV": "AWS_ECS_FARGATE"}, shared=True) is None
    assert loss(Mount("/", "/data", "nfs4"), {"AWS_EXECUTION_ENV": "AWS_ECS_FARGATE"}) is None


def test_a_table_without_the_folder() -> None:
    assert mount_of(Path("/data"), "") is None


def test_this_machine_has_a_table() -> None:
    assert loss_of(Path("/proc"), {}) is None
