"""Times of schedules, by cronsim: a time of the day comes once on each day, whatever the clocks do on it."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from gateway.workflows.source import cut

# By what the library calls the fields.
_ALLOWED = {
    "minute": "0 to 59",
    "hour": "0 to 23",
    "day-of-month": "1 to 31, and a day that a month of the next field has, or L",
    "month": "1 to 12 or JAN to DEC",
    "day-of-week": "0 to 7 (0 and 7: Sunday) or SUN to SAT",
}


def problem(cron: str, time_zone: str) -> str:
    """What is wrong with a schedule; "" when nothing is."""
    try:
        zone = ZoneInfo(time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return f"time_zone: {cut(time_zone)!r} is no time zone; one is Europe/Berlin or UTC"
    if len(cron.split()) != 5:
        return f"cron: {cut(cron)!r} has not five fields: minute, hour, day, month, day of the week"
    try:
        next(CronSim(cron, datetime.now(zone)))
    except CronSimError as error:
        part = str(error).removeprefix("Bad ")
        allowed = f"; it is {_ALLOWED[part]}, with * , - and /" if part in _ALLOWED else ""
        return f"cron: {cut(cron)!r}: bad {part}{allowed}"
    except StopIteration:
        return f"cron: {cut(cron)!r} never happens"
    return ""


def times(cron: str, time_zone: str, after_ms: int, until_ms: int, limit: int) -> list[datetime]:
    """The times behind `after_ms`, up to `until_ms` and the first one behind it, in the schedule's zone; `limit` at
    most. Empty where the schedule has ended."""
    found: list[datetime] = []
    begin = datetime.fromtimestamp(after_ms / 1000, UTC).astimezone(ZoneInfo(time_zone))
    for time in CronSim(cron, begin):
        found.append(time)
        if len(found) >= limit or time.timestamp() * 1000 > until_ms:
            break
    return found
