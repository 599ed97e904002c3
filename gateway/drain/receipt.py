"""What a drain did: kept as JSON and as one picture, for a look at the deploy afterwards. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from msgspec import Struct

_MAX_STEPS = 600


class StepReceipt(Struct, frozen=True):
    """One step of a deployment: the weight of the new revision (0 to 1), and the websockets sent away in it."""

    weight: float
    sent_away: int


class ShiftReceipt(Struct, frozen=True):
    """What following the weights of a deployment cost. `hops`: closes divided by the connections at its beginning.

    `budget`: the closes that were allowed. `stayed`: connections that were left for the drain of the old tasks.
    """

    deployment: str
    budget: int
    hops: float
    stayed: int
    steps: list[StepReceipt]


class Receipt(Struct, frozen=True):
    """`origin`: target_health, api, sigusr1, sigterm or weights. `outcome`: drained, cancelled, terminated, leftovers;
    of weights: rolled_back, succeeded, clean_up or cancelled, and `shift` has more.

    `connections` were open when it began; `sent_away` of them and of those that came later were told to leave by this
    drain. `closed` counts all ends by cause while it lasted. `leftover` were cut when the time after SIGTERM was over.
    `overrun` are closes above what the receivers take, forced by the deadline. `closes`: how many in each `step_s`.
    Times in ms since the Unix epoch, spans in seconds; in a rehearsal, of the drain's own faster clock.
    """

    origin: str
    outcome: str
    began_ms: int
    took_s: float
    window_s: float
    connections: int
    sent_away: int
    leftover: int
    overrun: int
    even_rate_per_s: float
    highest_per_s: int
    step_s: float
    closes: list[int]
    closed: Mapping[str, int] = {}
    receivers: int | None = None
    draining: int | None = None
    shift: ShiftReceipt | None = None


class Tally:
    """Closes by second while a drain goes on."""

    def __init__(self) -> None:
        self._closes: Counter[int] = Counter()

    def add(self, second: float, count: int) -> None:
        """Count closes at this number of seconds after the drain began."""
        if count:
            self._closes[int(second)] += count

    @property
    def total(self) -> int:
        return self._closes.total()

    @property
    def highest_per_s(self) -> int:
        """Closes in the highest second."""
        return max(self._closes.values(), default=0)

    def last_per_s(self, second: float) -> int:
        """Closes in the last whole second before `second`."""
        return self._closes[int(second) - 1]

    def steps(self) -> tuple[float, list[int]]:
        """Seconds a step, and closes by step; at most 600 of them."""
        if not self._closes:
            return 1.0, []
        last = max(self._closes)
        width = last // _MAX_STEPS + 1
        counts = [0] * (last // width + 1)
        for second, count in self._closes.items():
            counts[second // width] += count
        return float(width), counts


_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 720, 260, 56, 36, 44


def picture(receipt: Receipt) -> str:
    """The closes over time as SVG, with the even rate as a line."""
    steps = receipt.closes or [0]
    even = receipt.even_rate_per_s * receipt.step_s
    top = max(*steps, even, 1)
    wide, high = _WIDTH - _LEFT - 12, _HEIGHT - _BOTTOM - _TOP
    bar = wide / len(steps)

    def y(value: float) -> float:
        return _TOP + high * (1 - value / top)

    points = " ".join(
        f"{_LEFT + bar * place:.1f},{y(count):.1f}" for step, count in enumerate(steps) for place in (step, step + 1)
    )
    shape = f"{_LEFT},{_TOP + high} {points} {_LEFT + wide:.1f},{_TOP + high}"
    title = (
        f"{receipt.sent_away:,} of {receipt.connections:,} sent away in {receipt.took_s:,.0f} s, "
        f"at most {receipt.highest_per_s:,} a second"
    )
    per = "a second" if receipt.step_s == 1 else f"in {receipt.step_s:g} s"
    text = 'font-family="sans-serif" font-size'
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">',
            f"<title>{title}</title>",
            f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
            f'<text x="{_LEFT}" y="22" {text}="14">{title}</text>',
            f'<text x="{_LEFT}" y="38" {text}="11" fill="#666">{receipt.origin}, {receipt.outcome}; '
            f"overrun {receipt.overrun:,}, cut {receipt.leftover:,}</text>",
            f'<polygon points="{shape}" fill="#4a90d9"/>',
            f'<line x1="{_LEFT}" x2="{_LEFT + wide}" y1="{y(even):.1f}" y2="{y(even):.1f}" stroke="#d9534a" '
            'stroke-dasharray="4 3"/>',
            f'<text x="{_LEFT - 6}" y="{_TOP + 10}" {text}="11" text-anchor="end">{top:,.0f}</text>',
            f'<text x="{_LEFT - 6}" y="{_TOP + high}" {text}="11" text-anchor="end">0</text>',
            f'<text x="{_LEFT}" y="{_HEIGHT - 12}" {text}="11">closes {per}; dashed: even</text>',
            f'<text x="{_LEFT + wide}" y="{_HEIGHT - 12}" {text}="11" text-anchor="end">'
            f"{len(steps) * receipt.step_s:,.0f} s</text>",
            "</svg>",
            "",
        )
    )
