#!/usr/bin/env bash
# Builds the container image with a docker client that has BuildKit.
#
#   IMAGE=sched:latest           name of the result
#   BINARIES=prebuilt|build      take the binaries from TARGET_DIR, or compile inside the image
#   BASE=debian:bookworm-slim    what the binaries run on; its C library must not be older than the one they were built with
#   TARGET_DIR=target/debug      where `make build` left schednode, sched-supervise-1 and schedcli
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

IMAGE=${IMAGE:-sched:latest}
BINARIES=${BINARIES:-prebuilt}
BASE=${BASE:-debian:bookworm-slim}
TARGET_DIR=${TARGET_DIR:-target/debug}

# From version 23 on a client needs the buildx plugin; before that BuildKit is built in, and a variable chooses it.
docker_with_buildkit() {
    local client major
    for client in docker /usr/bin/docker; do
        command -v "$client" >/dev/null || continue
        major=$("$client" --version | sed -nE 's/.*version ([0-9]+).*/\1/p')
        if "$client" buildx version >/dev/null 2>&1 || [ "${major:-99}" -lt 23 ]; then echo "$client"; return; fi
    done
    echo "image: no docker client with BuildKit: install docker.io, or the buildx plugin" >&2
    return 1
}

docker=$(docker_with_buildkit)
case $BINARIES in
    build) context=. ;;
    prebuilt)
        context=$(mktemp -d)
        trap 'rm -rf "$context"' EXIT
        for binary in schednode sched-supervise-1 schedcli; do
            [ -x "$TARGET_DIR/$binary" ] || { echo "image: $TARGET_DIR/$binary is missing: run 'make build' first" >&2; exit 1; }
            # Debug information stays behind: a backtrace still names its functions, and the image is a fraction of the size.
            strip --strip-debug -o "$context/$binary" "$TARGET_DIR/$binary"
        done
        ;;
    *) echo "image: BINARIES is '$BINARIES': expected prebuilt or build" >&2; exit 2 ;;
esac

DOCKER_BUILDKIT=1 "$docker" build --quiet --file deploy/Dockerfile \
    --build-arg "BINARIES=$BINARIES" --build-arg "BASE=$BASE" --tag "$IMAGE" "$context"
echo "image: $IMAGE, $("$docker" image inspect --format '{{.Size}}' "$IMAGE" | awk '{printf "%.0f MB", $1 / 1e6}')" >&2
