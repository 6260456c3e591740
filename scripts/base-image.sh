#!/usr/bin/env bash
# Makes a minimal Debian or Ubuntu root file system as a tar archive: a base image where no registry can be reached.
#
#   scripts/base-image.sh FILE.tar && docker import FILE.tar NAME:TAG
#
# It is this machine's own release, from this machine's own mirror, so that binaries built here find their libraries there.
# Needs root and debootstrap. An archive that exists is kept.
set -euo pipefail

file=${1:?usage: base-image.sh FILE.tar}
[ -s "$file" ] && exit 0
[ "$(id -u)" = 0 ] || { echo "base-image: debootstrap needs root" >&2; exit 1; }
command -v debootstrap >/dev/null || { echo "base-image: debootstrap is missing (scripts/setup.sh test installs it)" >&2; exit 1; }

. /etc/os-release
# The first mirror that apt uses, in either of its formats; debootstrap's default when there is none.
mirror=$({ sed -nE 's/^URIs:[[:space:]]*([^[:space:]]+).*/\1/p; s/^deb[[:space:]]+(\[[^]]*\][[:space:]]+)?([^[:space:]]+).*/\2/p' \
    /etc/apt/sources.list.d/"$ID".sources /etc/apt/sources.list 2>/dev/null || true; } | head -n 1)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
echo "base-image: debootstrap $VERSION_CODENAME into $file (a minute, once)" >&2
debootstrap --variant=minbase "$VERSION_CODENAME" "$work/root" ${mirror:+"$mirror"} >"$work/log" 2>&1 ||
    { tail -n 20 "$work/log" >&2; echo "base-image: debootstrap failed" >&2; exit 1; }
rm -rf "$work"/root/var/cache/apt/* "$work"/root/var/lib/apt/lists/* "$work"/root/usr/share/{doc,man,locale}
# Complete or not there: an interrupted run leaves no half archive to be found by the next.
mkdir -p "$(dirname "$file")"
tar -C "$work/root" -cf "$file.part" .
mv "$file.part" "$file"
