#!/usr/bin/env bash
# Build the image with podman, buildah or docker, whichever is there: image/build.sh [TAG] [more options of the builder].
#
# The same commit gives the same layers. BUILDER names the tool, SOURCE_DATE_EPOCH another time than the commit's;
# PIP_INDEX_URL and PIP_CERT (a mirror, the certificates of a proxy) reach pip, and nothing of them the result.
set -euo pipefail
cd "$(dirname "$0")/.."
tag=${1:-heiwa}
shift || true

for builder in ${BUILDER:-podman buildah docker}; do
    if command -v "$builder" >/dev/null; then break; fi
    builder=
done
[ -n "${builder:-}" ] || { echo "needs podman, buildah or docker (Debian: apt install podman)" >&2; exit 2; }

version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' gateway/__init__.py)
revision=$(git describe --always --dirty --abbrev=40 --exclude '*' 2>/dev/null || echo unknown)
source=$(git config --get remote.origin.url 2>/dev/null | sed 's#//[^/@]*@#//#' || true)
epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 315532800)}

options=(--tag "$tag" --file Dockerfile)
options+=(--build-arg VERSION="$version" --build-arg REVISION="$revision" --build-arg SOURCE="${source:-unknown}")
options+=(--build-arg SOURCE_DATE_EPOCH="$epoch")
[ -z "${PIP_INDEX_URL:-}" ] || options+=(--build-arg PIP_INDEX_URL)
[ -z "${PIP_CERT:-}" ] || options+=(--build-arg PIP_CERT)

case $builder in
docker)
    # BuildKit takes the times of files from SOURCE_DATE_EPOCH only when it is told to rewrite them.
    options+=(--output type=docker,rewrite-timestamp=true)
    ;;
*)
    # With control groups of both versions side by side, crun runs nothing.
    [ ! -d /sys/fs/cgroup/unified ] || export BUILDAH_ISOLATION=${BUILDAH_ISOLATION:-chroot}
    # The OCI format has no place for HEALTHCHECK.
    options+=(--format docker --timestamp "$epoch")
    [ -z "${PIP_CERT:-}" ] || options+=(--volume "$PIP_CERT:$PIP_CERT:ro")
    ;;
esac
echo "$builder builds $tag: version $version, revision $revision"
exec "$builder" build "${options[@]}" "$@" .
