#!/usr/bin/env bash
# One config becomes a deployed, rolled-back and redeployed model, offline, on two cores.
set -euo pipefail
cd "$(dirname "$0")/.."
export SLM_HOME="${SLM_HOME:-$PWD/.slm}"
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1

if [ -e "$SLM_HOME/registry.db" ]; then
  aside="$SLM_HOME.$(date +%Y%m%d-%H%M%S)"
  echo "state of an earlier run is kept in $aside"
  mv "$SLM_HOME" "$aside"
fi

step() { printf '\n\033[1m%s\033[0m\n' "$*"; }
# Runs a command visibly; the first argument is the exit code that the story expects.
expect() {
  local want=$1 code=0
  shift
  printf '\033[36m$ %s\033[0m\n' "$*"
  "$@" || code=$?
  if [ "$code" -ne "$want" ]; then
    echo "demo: expected exit code $want from '$*', got $code" >&2
    exit 1
  fi
}

step "1. One config describes the task: contracts, oracle, seed, recipe, gates."
expect 0 slm validate travel

step "2. v1: eight tenths of the data, through every stage. It passes its gates and waits for a first approval."
expect 4 slm run travel --train-fraction 0.8 --reason "eight tenths of the corpus"
expect 0 slm approve travel v1 --by "demo operator" --reason "first promotion, numbers read"
expect 0 slm run travel --version v1

step "3. v2: a hundredth of the data. The gates hold it, and say why."
expect 3 slm run travel --train-fraction 0.01 --reason "what if we had hardly any data"

step "4. v3: all of the data. Better than v1, promoted by itself: the first approval opened the way."
expect 0 slm run travel --reason "the whole corpus"

step "5. Why does v3 serve?"
expect 0 slm why travel --role extract

step "6. Back to v1, by a flag; then forward again. Nothing is rebuilt."
expect 0 slm rollback travel --reason "drill"
expect 0 slm rollback travel --to v3 --reason "drill over"
expect 0 slm status travel

step "Next"
cat <<'EOF'
  make ui              the same three versions in Dagster: lineage, grid, gates, plots
  slm why travel       the whole story of what serves
  domains/travel/      the config; copy the folder and describe your own task
  docs/                concepts, every config key, operations
EOF
