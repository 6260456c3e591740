# Functions that the demo and the smoke test share: nodes on this machine, and waiting for events. Sourced, never run.
#
# Wants BIN (folder of the binaries), work (scratch folder) and PATIENCE_S (longest wait for one event) to be set.
# shellcheck shell=bash disable=SC2154

declare -a pid client peer

# Everything that leaves these files by `die` is a failure of what runs them.
die() { printf '\n%s: FAILED: %s\n' "$(basename "$0" .sh)" "$*" >&2; exit 1; }
schedcli() { "$BIN/schedcli" "$@"; }
json() { "$BIN/schedcli" --output json "$@"; }
now_ms() { date +%s%3N; }

# The first value of a key in a JSON document on standard input; enough for the few that are read here.
value() { tr -d '\n' | grep -oE "\"$1\": ?(\"[^\"]*\"|[^],} ]+)" | head -n 1 | sed -E 's/^"[^"]*": ?"?//; s/"$//'; }

# Looks until a command succeeds. The last look's words are shown when time is up.
eventually() {
    local what=$1 end=$((SECONDS + PATIENCE_S)); shift
    until "$@" >"$work/look" 2>&1; do
        [ $SECONDS -lt $end ] || { cat "$work/look" >&2; die "$what: not within $PATIENCE_S s"; }
        sleep 0.1
    done
}

# A port below the range that the system hands out by itself, on which nobody answers.
free_port() {
    local port
    while :; do
        port=$((20000 + RANDOM % 12000))
        case " ${client[*]:-} ${peer[*]:-} " in *":$port "*) continue ;; esac
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return; }
    done
}

# Chooses addresses for nodes 1 to $1, and points schedcli at them.
plan_nodes() {
    local n
    for n in $(seq "$1"); do client[n]=127.0.0.1:$(free_port); peer[n]=127.0.0.1:$(free_port); done
    members=$(IFS=,; echo "${peer[*]}")
    SCHED_ENDPOINT=$(IFS=,; echo "${client[*]}")
    export SCHED_ENDPOINT
}

start_node() {
    local n=$1
    "$BIN/schednode" run --data-dir "$work/node$n" --name "node$n" --listen "${client[n]}" --peer-listen "${peer[n]}" \
        --initial-cluster "$members" >>"$work/node$n.log" 2>&1 </dev/null &
    pid[n]=$!
}

# Ends what was started here and still runs, politely first.
stop_nodes() {
    local n
    for n in "${!pid[@]}"; do kill -TERM "${pid[n]}" 2>/dev/null || true; done
    for n in "${!pid[@]}"; do
        # Ends when the process does; the bound is for one that does not.
        timeout 20 tail --pid "${pid[n]}" -f /dev/null || kill -KILL "${pid[n]}" 2>/dev/null || true
        wait "${pid[n]}" 2>/dev/null || true
    done
}

# The last words of every node, after a failure.
show_logs() {
    local log
    for log in "$work"/*.log; do
        [ -e "$log" ] || continue
        printf '\n--- %s, last lines\n' "$(basename "$log")" >&2
        tail -n 15 "$log" >&2
    done
}

all_reachable() {
    local status
    status=$(json status) || return 1
    echo "$status"
    [ "$(grep -oE '"reachable": ?true' <<<"$status" | wc -l)" = "$1" ]
}
