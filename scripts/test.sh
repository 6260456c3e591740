#!/usr/bin/env bash
# Every test of the workspace. The binaries are built first: the tests start them as processes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

stage() {
    local name=$1 start=$SECONDS; shift
    if "$@"; then printf 'test: %-8s ok, %d s\n' "$name" $((SECONDS - start))
    else printf 'test: %-8s FAILED, %d s\n' "$name" $((SECONDS - start)); exit 1; fi
}

stage build cargo build --locked --workspace --bins
stage compile cargo test --quiet --locked --workspace --no-run
# One failing binary does not hide what the others have to say.
stage run cargo test --locked --workspace --no-fail-fast
