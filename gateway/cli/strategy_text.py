"""What a deploy by weights would do, as a table for people."""

from __future__ import annotations

from typing import Any


def describe(found: dict[str, Any]) -> str:
    """A StrategyPlan: one line that sums it up, and one a step."""
    share = found["left"] / found["connections"] if found["connections"] else 0.0
    lines = [
        f"{found['strategy']}: {found['connections']:,} connections on {found['tasks']:,} tasks, in "
        f"{found['minutes']:,.0f} minutes; {found['hops']:.2f} moves a device, {found['left']:,} ({share:.0%}) left "
        f"for the clean-up; at most {found['budget']:,} closes before it",
        f"weights are noticed up to {found['lag_s']:,.0f} s late; at most {found['receiver_per_s']:,.1f} handshakes a "
        f"second a receiver; without following them the first step would meet {found['unfollowed']:,}",
        " weight  minutes     closes  a second  on the new",
    ]
    lines += [
        f"{step['weight']:>7.1%}  {step['minutes']:>7,.1f}  {step['closes']:>9,}  {step['closes_per_s']:>8,.2f}  "
        f"{step['on_new']:>10,}"
        for step in found["steps"]
    ]
    return "\n".join(lines)
