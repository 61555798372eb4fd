#!/usr/bin/env bash
# What the tests do with a hundred thousand, done with millions: plans are read on a ledger
# of ten million deliveries, and an alert overtakes a million routine messages.
# Usage: tests/large.sh      (half an hour, 20 GB of disk)
#   CARGO                 the cargo to call
#   GONG_TEST_DELIVERIES  deliveries of the ledger
#   GONG_TEST_ROUTINE     routine messages
set -euo pipefail
cd "$(dirname "$0")/.."

export GONG_TEST_DELIVERIES=${GONG_TEST_DELIVERIES:-10000000} GONG_TEST_ROUTINE=${GONG_TEST_ROUTINE:-1000000}
GONG_TEST_POSTGRES=${GONG_TEST_POSTGRES:-$(deploy/services/postgres.sh start)}
GONG_TEST_RABBITMQ=${GONG_TEST_RABBITMQ:-$(deploy/services/rabbitmq.sh start)}
export GONG_TEST_POSTGRES GONG_TEST_RABBITMQ

run() { "${CARGO:-cargo}" test --locked "$@"; }
run --lib -- --nocapture nothing_hot_reads_a_table_from_end_to_end
run --test it -- --nocapture an_immediate_dispatch_overtakes_a_routine_one
