#!/usr/bin/env bash
# gpxpy 1.6.2: three forms of a time that xsd:dateTime or RFC 3339 allows become None without an error: 24:00:00 (the end of
# a day), small letters, and a leap second.
#
# Seen:
#   2010-08-05T23:59:59Z 2010-08-05 23:59:59+00:00
#   2010-08-05T24:00:00Z None
#   2010-08-05t14:00:00z None
#   2016-12-31T23:59:60Z None
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/v"; "$work/v/bin/pip" install -q --disable-pip-version-check gpxpy==1.6.2
"$work/v/bin/python" - <<'PY' | diff - <(sed -n 's/^#   //p' "$0")
import gpxpy

POINT = '<gpx version="1.1"><trk><trkseg><trkpt lat="1" lon="2"><time>{}</time></trkpt></trkseg></trk></gpx>'
for time in ("2010-08-05T23:59:59Z", "2010-08-05T24:00:00Z", "2010-08-05t14:00:00z", "2016-12-31T23:59:60Z"):
    print(time, gpxpy.parse(POINT.format(time)).tracks[0].segments[0].points[0].time)
PY
