#!/usr/bin/env bash
# croniter 7.0.0: "30 2 * * *" comes twice in the night when the clocks go back, at both of its 02:30s, so that a nightly
# job runs twice. cronsim 2.8 comes once. In the night when the clocks go forward both take 03:00 for the 02:30 that
# there is not.
#
# Seen:
#   croniter 30 2 * * * 2026-10-25T02:30:00+02:00 2026-10-25T02:30:00+01:00 2026-10-26T02:30:00+01:00
#   cronsim 30 2 * * * 2026-10-25T02:30:00+02:00 2026-10-26T02:30:00+01:00 2026-10-27T02:30:00+01:00
#   croniter 30 2 * * * 2026-03-29T03:00:00+02:00 2026-03-30T02:30:00+02:00 2026-03-31T02:30:00+02:00
#   cronsim 30 2 * * * 2026-03-29T03:00:00+02:00 2026-03-30T02:30:00+02:00 2026-03-31T02:30:00+02:00
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/v"
"$work/v/bin/pip" install -q --disable-pip-version-check croniter==7.0.0 cronsim==2.8 tzdata==2025.2
"$work/v/bin/python" - <<'PY' | diff - <(sed -n 's/^#   //p' "$0")
from datetime import datetime
from zoneinfo import ZoneInfo

from croniter import croniter
from cronsim import CronSim

BERLIN = ZoneInfo("Europe/Berlin")
NIGHTLY = "30 2 * * *"
for day in (datetime(2026, 10, 24, 12, tzinfo=BERLIN), datetime(2026, 3, 28, 12, tzinfo=BERLIN)):
    loose, strict = croniter(NIGHTLY, day), CronSim(NIGHTLY, day)
    print("croniter", NIGHTLY, *[loose.get_next(datetime).isoformat() for _ in range(3)])
    print("cronsim", NIGHTLY, *[next(strict).isoformat() for _ in range(3)])
PY
