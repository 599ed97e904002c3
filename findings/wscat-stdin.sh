#!/usr/bin/env bash
# wscat 6.1.0: with standard input at its end it exits 0 before it has connected, also to a port where nobody listens. In a
# cron job or in CI a check with it is always good.
#
# Seen:
#   input at its end: exit 0
#   input that stays open: exit 255
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
(cd "$work" && npm install --silent --no-audit --no-fund wscat@6.1.0 >/dev/null)
run() { "$work/node_modules/.bin/wscat" -c ws://127.0.0.1:1/ws -x hello >/dev/null 2>&1 && echo "exit 0" || echo "exit $?"; }
{
    echo "input at its end: $(run </dev/null)"
    echo "input that stays open: $(sleep 5 | run)"
} | diff - <(sed -n 's/^#   //p' "$0")
