#!/usr/bin/env bash
# Every test of the workspace. The binaries that tests start as processes are built with the tests: each package that has one has a test
# of its own, and a build of the binaries alone would compile most dependencies twice, since tests ask more features of some.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

stage() {
    local name=$1 start=$SECONDS; shift
    if "$@"; then printf 'test: %-8s ok, %d s\n' "$name" $((SECONDS - start))
    else printf 'test: %-8s FAILED, %d s\n' "$name" $((SECONDS - start)); exit 1; fi
}

# The Python client against the binaries just built. Without its Python there is nothing to run it with.
python_client() {
    if [ -x .tools/python/bin/python ]; then
        .tools/python/bin/python -m pytest -q clients/python
    elif [ "${CI:-}" = true ]; then
        echo "test: no .tools/python; scripts/setup.sh test makes it" >&2
        return 1
    else
        echo "test: no .tools/python, the Python client is not tested (scripts/setup.sh test makes it)" >&2
    fi
}

stage compile cargo test --quiet --locked --workspace --no-run
stage python python_client
# One failing binary does not hide what the others have to say.
stage run cargo test --locked --workspace --no-fail-fast
