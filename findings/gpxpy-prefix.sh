#!/usr/bin/env bash
# gpxpy 1.6.2: a GPX 1.1 file whose elements have a namespace prefix (valid, and the same document) is read without an
# error as a file without tracks.
#
# Seen:
#   default namespace: 1 track, 1 point
#   with a prefix: 0 tracks
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/v"; "$work/v/bin/pip" install -q --disable-pip-version-check gpxpy==1.6.2
"$work/v/bin/python" - <<'PY' | diff - <(sed -n 's/^#   //p' "$0")
import gpxpy

xmlns = "http://www.topografix.com/GPX/1/1"
POINT = '<{0}trk><{0}trkseg><{0}trkpt lat="1" lon="2"/></{0}trkseg></{0}trk>'
plain = gpxpy.parse(f'<gpx xmlns="{xmlns}" version="1.1" creator="x">{POINT.format("")}</gpx>')
named = gpxpy.parse(f'<g:gpx xmlns:g="{xmlns}" version="1.1" creator="x">{POINT.format("g:")}</g:gpx>')
print(f"default namespace: {len(plain.tracks)} track, {plain.get_points_no()} point")
print(f"with a prefix: {len(named.tracks)} tracks")
PY
