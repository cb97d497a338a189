#!/usr/bin/env bash
# One config becomes a model that serves, meets another world, and improves itself, offline, on two cores.
set -euo pipefail
cd "$(dirname "$0")/.."
export SLM_HOME="${SLM_HOME:-$PWD/.slm}"
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
SERVICE_PORT="${SERVICE_PORT:-8080}"
SERVICE="http://127.0.0.1:$SERVICE_PORT"

if [ -e "$SLM_HOME/registry.db" ]; then
  aside="$SLM_HOME.$(date +%Y%m%d-%H%M%S)"
  echo "state of an earlier run is kept in $aside"
  mv "$SLM_HOME" "$aside"
fi
mkdir -p "$SLM_HOME"

step() { printf '\n\033[1m%s\033[0m\n' "$*"; }
# Runs a command visibly; the first argument lists the exit codes that the story expects, the last code stays in $code.
expect() {
  local want=$1
  shift
  printf '\033[36m$ %s\033[0m\n' "$*"
  code=0
  "$@" || code=$?
  case " $want " in
    *" $code "*) ;;
    *)
      echo "demo: expected exit code $want from '$*', got $code" >&2
      exit 1
      ;;
  esac
}
jobs_end() {
  for pid in ${people:-} ${service:-}; do kill "$pid" 2>/dev/null || true; done
  wait 2>/dev/null || true
}
trap jobs_end EXIT
# A shell lets what it puts into the background ignore SIGINT; SIGTERM ends both gracefully.
answered() { slm engine travel "$1" --json | tr -d ' \n' | sed -E 's/.*"version":"?([^",}]*).*/\1/'; }

step "1. One config describes the task: contracts, oracle, seed, recipe, gates."
expect 0 slm validate travel

step "2. v1 goes through every stage. It passes its gates, and waits for a first approval by name."
expect 4 slm run travel --reason "the corpus"
expect 0 slm approve travel v1 --by "demo operator" --reason "first promotion, numbers read"
expect 0 slm run travel --version v1

step "3. It answers over HTTP. People write as in the corpus: nothing fires."
printf '\033[36m$ slm serve travel --port %s &\033[0m\n' "$SERVICE_PORT"
slm serve travel --port "$SERVICE_PORT" 2> "$SLM_HOME/service.log" &
service=$!
ready="import urllib.request as u; u.urlopen('$SERVICE/readyz', timeout=2)"
for _ in $(seq 100); do python -c "$ready" 2> /dev/null && break || sleep 0.2; done
expect 0 slm simulate travel --scenario new_intents --phase before --turns 600 --url "$SERVICE"
expect 0 slm watch travel

step "4. A new market comes, with other words and other wishes, and goes on writing."
shifted=$SECONDS
expect 0 slm simulate travel --scenario new_intents --phase shift --turns 1200 --url "$SERVICE"
printf '\033[36m$ slm simulate travel --scenario new_intents --phase shift --rate 20 --seed 2 &\033[0m\n'
slm simulate travel --scenario new_intents --phase shift --turns 100000 --rate 20 --seed 2 --url "$SERVICE" \
  > "$SLM_HOME/people.log" 2>&1 &
people=$!

step "5. The triggers fire. v2 learns from what people corrected, passes its gates, and must prove itself on live turns."
for _ in 1 2 3 4; do
  expect "0 4" slm watch travel --retrain
  [ "$code" -eq 0 ] && break
done
[ "$(answered extract)" = v2 ] || { echo "demo: v2 was not promoted" >&2; exit 1; }
printf '\033[1mfrom the shift to the promoted version: %s seconds\033[0m\n' "$((SECONDS - shifted))"

step "6. Nobody noticed but by the answers: no request failed."
sleep 3
kill "$people" && wait "$people" || true
people=
cat "$SLM_HOME/people.log"
grep -qE '^│ all +│ [0-9]+ +│ 0 ' "$SLM_HOME/people.log" || { echo "demo: a request failed" >&2; exit 1; }

step "7. Why does v2 serve? And back to v1, by a flag, then forward again: nothing is rebuilt."
expect 0 slm why travel --role extract
expect 0 slm rollback travel --reason "drill"
expect 0 slm rollback travel --to v2 --reason "drill over"
expect 0 slm status travel

step "Next"
cat <<EOF
  make ui              the same in Dagster: lineage, grid, gates, drift, plots
  slm serve            the service, with a page for each domain at $SERVICE
  slm triggers travel  what fired, and what became of it
  domains/travel/      the config; copy the folder and describe your own task
  docs/                concepts, the loop, every config key, operations
EOF
