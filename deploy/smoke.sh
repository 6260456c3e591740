#!/usr/bin/env bash
# Each form of deployment: starts it, runs one task in it to its end, stops it.
#
#   deploy/smoke.sh [dev|nodes|compose|kubernetes|systemd]…
#
# Without arguments: those this machine has the means for. Kubernetes and systemd are only used where they are already
# installed there: `kubectl apply -k deploy/kubernetes`, and what the head of schednode.service says.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

BIN=$(realpath "${TARGET_DIR:-target/debug}")
PATIENCE_S=90
work=$(mktemp -d "${TMPDIR:-/tmp}/sched-smoke.XXXXXX")
. scripts/nodes.sh
COMPOSE=

finish() {
    local status=$?
    trap - EXIT
    [ $status = 0 ] || show_logs
    stop_nodes
    [ -z "$COMPOSE" ] || compose down --volumes --timeout 5 >/dev/null 2>&1 || true
    rm -rf "$work"
    exit $status
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# The one task: enqueued, due a second later, and waited for. The prefix says how to reach schedcli.
task() { eventually "a task runs to its end" "$@" enqueue --in 1s --sample ok --wait; }

dev() {
    client[1]=127.0.0.1:$(free_port)
    peer[1]=127.0.0.1:$(free_port)
    "$BIN/schednode" dev --data-dir "$work/dev" --listen "${client[1]}" --peer-listen "${peer[1]}" >"$work/dev.log" 2>&1 </dev/null &
    pid[1]=$!
    task "$BIN/schedcli" --endpoint "${client[1]}"
    stop_nodes
    pid=()
}

nodes() {
    plan_nodes 3
    for n in 1 2 3; do start_node "$n"; done
    eventually "the cluster forms" all_reachable 3
    task schedcli
    stop_nodes
    pid=()
}

compose() { # shellcheck disable=SC2086 # two words where compose is a plugin of docker
    $COMPOSE --project-name "sched-smoke-$$" --file deploy/compose.yaml "$@"
}

find_compose() {
    docker info >/dev/null 2>&1 || return 1
    if docker compose version >/dev/null 2>&1; then echo docker compose
    elif command -v docker-compose; then :
    else return 1; fi
}

in_compose() {
    COMPOSE=$(find_compose) || die "no container engine answers, or docker-compose is missing"
    SCHED_PORT_1=$(free_port) SCHED_PORT_2=$(free_port) SCHED_PORT_3=$(free_port)
    export SCHED_PORT_1 SCHED_PORT_2 SCHED_PORT_3
    deploy/image.sh
    compose up -d --no-build
    task compose exec -T node1 schedcli
    compose down --volumes --timeout 30
    COMPOSE=
}

in_kubernetes() {
    kubectl --namespace sched rollout status statefulset/sched --timeout "${PATIENCE_S}s"
    task kubectl --namespace sched exec sched-0 -- schedcli
}

in_systemd() {
    systemctl is-active --quiet schednode || die "schednode.service is not active"
    task schedcli
}

# What this machine has the means for.
possible() {
    printf '%s\n' dev nodes
    find_compose >/dev/null && echo compose
    command -v kubectl >/dev/null && kubectl --request-timeout 3s get namespace sched >/dev/null 2>&1 && echo kubernetes
    command -v systemctl >/dev/null && systemctl is-active --quiet schednode 2>/dev/null && echo systemd
    return 0
}

if [ $# -gt 0 ]; then forms=("$@"); else mapfile -t forms < <(possible); fi
for form in "${forms[@]}"; do
    start=$SECONDS
    case $form in
        dev | nodes) "$form" ;;
        compose | kubernetes | systemd) "in_$form" ;;
        *) die "unknown form '$form': expected dev, nodes, compose, kubernetes or systemd" ;;
    esac
    printf 'smoke: %-10s ok, %d s\n' "$form" $((SECONDS - start))
done
