#!/usr/bin/env bash
# Linux 6.18, coreutils 9.1, Python 3.11: process 1 of a PID namespace (so of a container without an init) never sees a
# SIGTERM that comes before it has a handler: the kernel drops it. One that is blocked waits: env --block-signal and a
# pthread_sigmask after the handler let a program see what was sent while its interpreter started.
#
# Seen:
#   as it is: the signal of the first moment is lost
#   blocked: the signal of the first moment is seen
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
cat > "$work/late.py" <<'PY'
import signal
import sys
import time
from pathlib import Path

seen = []
Path(sys.argv[1]).touch()
# What an interpreter needs to start; the signal comes now.
time.sleep(1)
signal.signal(signal.SIGTERM, lambda *_: seen.append(1))
signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
time.sleep(0.2)
print("seen" if seen else "lost", flush=True)
PY
try() {
    local name=$1 mark="$work/$RANDOM"; shift
    unshare --pid --fork --kill-child "$@" python3 "$work/late.py" "$mark" > "$work/out" &
    local outer=$! inner=
    until [ -e "$mark" ]; do sleep 0.02; done
    inner=$(cat "/proc/$outer/task/$outer/children")
    kill -TERM $inner
    wait $outer
    echo "$name: the signal of the first moment is $(cat "$work/out")"
}
{ try "as it is"; try "blocked" env --block-signal=TERM; } | diff - <(sed -n 's/^#   //p' "$0")
