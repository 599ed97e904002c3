#!/usr/bin/env bash
# hdrhistogram 0.10.8: a histogram and its encoder refer to each other, so that a histogram that nobody has any more waits for
# the cyclic collector. It makes few objects, and the collector counts objects: a program that takes one histogram a second
# (0.2 MB each, 1 us to a day with 3 digits) and makes little else grows by 13 MB a minute. Without the encoder's reference it
# goes at once.
#
# Seen:
#   dropped: still there
#   dropped, encoder.histogram = None: gone
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/v"; "$work/v/bin/pip" install -q --disable-pip-version-check hdrhistogram==0.10.8
"$work/v/bin/python" - <<'PY' | diff - <(sed -n 's/^#   //p' "$0")
import gc
import weakref

from hdrh.histogram import HdrHistogram

gc.disable()


def dropped(cut):
    histogram = HdrHistogram(1, 86_400_000_000, 3)
    histogram.record_value(1500)
    histogram.encode()
    if cut:
        histogram.encoder.histogram = None
    return weakref.ref(histogram)


print("dropped:", "gone" if dropped(False)() is None else "still there")
print("dropped, encoder.histogram = None:", "gone" if dropped(True)() is None else "still there")
PY
