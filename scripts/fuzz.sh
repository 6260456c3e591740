#!/usr/bin/env bash
# Feeds one parser with what chance makes of its corpus: scripts/fuzz.sh TARGET SECONDS. SEED=n replays.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

target=${1:-} seconds=${2:-60}
# Beside the parser it feeds.
case $target in
    document) where=(-p schedcli) ;;
    manifest) where=(-p sched-storage --lib) ;;
    journal) where=(-p schednode --lib) ;;
    *) where=(-p sched-fuzz --test replay) ;;
esac
if [ -z "$target" ] || [ ! -d "fuzz/corpus/$target" ]; then
    echo "fuzz: which of these? $(ls fuzz/corpus | tr '\n' ' ')" >&2
    exit 2
fi
FUZZ_SECONDS=$seconds cargo test --locked "${where[@]}" "fuzz_$target" -- --nocapture
