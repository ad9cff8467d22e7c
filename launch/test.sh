#!/usr/bin/env bash
# Creates .venv and runs the tests: ./launch/test.sh [--all] [pytest options]
# Without --all it leaves out those marked slow: kills, long trainings, many processes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/environment.sh

chosen=(-m "not slow")
if [ "${1:-}" = --all ]; then
  shift
  chosen=()
fi
install dev
# Half of the time is tracing and compiling, which uses one core per process.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
exec .venv/bin/python -m pytest -n auto --maxprocesses=4 --dist=loadfile \
  --no-loadscope-reorder "${chosen[@]}" "$@"
