#!/usr/bin/env bash
# Reads everything, changes nothing, and goes on after a failure, so that one run shows all there is to mend.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit

# RustSec's advisories as they were when the archive was packed: the answer is the same on every machine and every day.
ADVISORIES=${ADVISORIES:-../shared/advisory-db.tar.gz}
failed=()

stage() {
    local name=$1 start=$SECONDS; shift
    if "$@"; then printf 'lint: %-8s ok, %d s\n' "$name" $((SECONDS - start))
    else printf 'lint: %-8s FAILED, %d s\n' "$name" $((SECONDS - start)); failed+=("$name"); fi
}

advisories() {
    if [ ! -f "$ADVISORIES" ]; then
        echo "lint: no advisory archive at $ADVISORIES, advisories are not checked (ADVISORIES names another)"
        return 0
    fi
    local db
    db=$(mktemp -d)
    tar -xzf "$ADVISORIES" -C "$db" && .tools/bin/cargo-audit audit --no-fetch --stale --deny warnings --db "$db"
    local status=$?
    rm -rf "$db"
    return $status
}

scripts_parse() {
    local file
    for file in scripts/*.sh deploy/*.sh .ci/run; do bash -n "$file" || return 1; done
}

documentation() { RUSTDOCFLAGS='-D warnings' cargo doc --quiet --locked --workspace --no-deps; }

stage scripts scripts_parse
stage fmt cargo fmt --all --check
stage clippy cargo clippy --quiet --locked --workspace --all-targets -- -D warnings
stage doc documentation
stage deny .tools/bin/cargo-deny --log-level warn check bans licenses sources
stage audit advisories

if [ ${#failed[@]} -gt 0 ]; then
    echo "lint: ${failed[*]} failed; 'make fix' mends formatting and what clippy can" >&2
    exit 1
fi
