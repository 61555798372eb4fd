#!/usr/bin/env bash
# Kills worker, planner, database and broker at random moments, again and again, and
# reads the books after every round. Usage: tests/soak.sh [SECONDS] [SEED]
#
# 300 seconds and a seed of the moment where none are given. The last line tells how it
# went and with which seed; the exit code is 0 where nothing was lost, else 1.
#   CARGO  the cargo to call
#   IT     the built test program, to call it instead
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-300}
seed=${2:-$(date +%s)}
[[ "$seconds" =~ ^[0-9]+$ && "$seed" =~ ^[0-9]+$ ]] || { echo "usage: tests/soak.sh [SECONDS] [SEED]" >&2; exit 2; }

export GONG_SOAK_SECONDS=$seconds GONG_TEST_SEED=$seed
# That they are named says that they may be had: the soak starts servers of its own.
GONG_TEST_POSTGRES=${GONG_TEST_POSTGRES:-$(deploy/services/postgres.sh start)}
GONG_TEST_RABBITMQ=${GONG_TEST_RABBITMQ:-$(deploy/services/rabbitmq.sh start)}
export GONG_TEST_POSTGRES GONG_TEST_RABBITMQ

run=(--exact --nocapture kills::soak::random_kills_lose_nothing)
if [ -n "${IT:-}" ]; then call=("$IT" "${run[@]}"); else call=("${CARGO:-cargo}" test --locked --test it -- "${run[@]}"); fi
echo "soak: $seconds s with seed $seed"
if "${call[@]}"; then
  echo "SOAK PASSED: seed $seed, at least $seconds s"
else
  echo "SOAK FAILED: seed $seed; play it again with: tests/soak.sh $seconds $seed"
  exit 1
fi
