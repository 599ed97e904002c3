#!/usr/bin/env bash
# setuptools 84.2.1 with build 1.6.1: SOURCE_DATE_EPOCH makes a wheel the same in every build, a source distribution not:
# its gzip header and generated files hold the time of the build, its members the times of the checkout.
#
# Seen:
#   wheel: the same twice
#   source distribution: differs
set -euo pipefail
self=$(realpath "$0")
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/v"; "$work/v/bin/pip" install -q --disable-pip-version-check setuptools==84.2.1 build==1.6.1
mkdir "$work/p"; cd "$work/p"
printf '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n[project]\nname = "p"\nversion = "1"\n' > pyproject.toml
echo 'x = 1' > p.py
export SOURCE_DATE_EPOCH=1700000000
for out in 1 2; do
    touch p.py
    "$work/v/bin/python" -m build --no-isolation --sdist --wheel --outdir "$work/$out" . > /dev/null 2>&1
    sleep 1.1
done
same() { cmp -s "$work/1/$1" "$work/2/$1" && echo "the same twice" || echo "differs"; }
{ echo "wheel: $(same p-1-py3-none-any.whl)"; echo "source distribution: $(same p-1.tar.gz)"; } | diff - <(sed -n 's/^#   //p' "$self")
