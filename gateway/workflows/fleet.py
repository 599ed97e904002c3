"""What the rebalancer sees of all managers, and what it orders. Times are the store's; `_s` counts from now."""

from __future__ import annotations

from typing import NamedTuple


class ManagerSeen(NamedTuple):
    """A manager that is not known to be dead.

    `left_s` of its lease, negative once it has run out; `heard_s` since its last sign of life. `lock_key` None: its
    process holds no session lock, so nothing follows from the absence of one. `hog_run` took too much of its time of
    late, as it has done `run_hogs` times before. `reserved`: it has that run for itself. `runs` are those that it has
    or is to have; `leaving` are still its own and offered to another, the oldest for `leaving_s`.
    """

    id: str
    fence: int
    left_s: float
    heard_s: float
    lock_key: int | None = None
    hog_run: str | None = None
    run_hogs: int = 0
    reserved: str | None = None
    runs: int = 0
    leaving: int = 0
    leaving_s: float = 0.0


class Leader(NamedTuple):
    """The rebalancer that is active."""

    holder: str
    epoch: int
    left_s: float
    lock_key: int | None


class FleetSeen(NamedTuple):
    """One look. `locks` are the session locks that are held now; None: they cannot be seen. `server` changes when the
    store's server was started anew. `left_behind`: runs of managers that are dead, as far as they were counted."""

    managers: tuple[ManagerSeen, ...] = ()
    leader: Leader | None = None
    locks: frozenset[int] | None = None
    server: str = ""
    left_behind: int = 0


class Lead(NamedTuple):
    """A rebalancer's right to write: only while its `epoch` is the one in the store."""

    holder: str
    epoch: int


class Share(NamedTuple):
    """So many runs for a manager."""

    manager: str
    runs: int


class Dead(NamedTuple):
    """Take over for it: its runs are offered as `shares` say, what is above them to anyone. `hinted`: its lease has not
    run out, so it may be alive."""

    manager: str
    fence: int
    hinted: bool
    shares: tuple[Share, ...]


class Move(NamedTuple):
    """Ask a manager to let go of some of its runs, but of `keep`."""

    manager: str
    shares: tuple[Share, ...]
    keep: str | None
    why: str


class Reserve(NamedTuple):
    """A manager has this run for itself, for some time. `for_s` None: as long as it has it."""

    manager: str
    fence: int
    run: str
    for_s: float | None


class Orders(NamedTuple):
    """All that follows from one look. `forced` managers do not let go by themselves, `withdrawn` could not until now;
    both concern offers older than `older_s`. `sweep`: find runs that were given to the dead. `freed` are reserved no
    more."""

    dead: tuple[Dead, ...] = ()
    forced: tuple[str, ...] = ()
    withdrawn: tuple[str, ...] = ()
    moves: tuple[Move, ...] = ()
    reserved: tuple[Reserve, ...] = ()
    freed: tuple[str, ...] = ()
    sweep: bool = False
    older_s: float = 0.0

    @property
    def empty(self) -> bool:
        """Nothing has to be done."""
        return not (
            self.dead or self.forced or self.withdrawn or self.moves or self.reserved or self.freed or self.sweep
        )
