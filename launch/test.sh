#!/usr/bin/env bash
# The tests, in an environment of their own making. Options are passed on to pytest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/environment.sh

install dev
# Half of the time is tracing and compiling, which uses one core a process.
exec .venv/bin/python -m pytest -n auto --maxprocesses=4 --dist=loadfile "$@"
