#!/usr/bin/env bash
# The tests, in an environment of their own making. Options are passed on to pytest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/environment.sh

install dev
exec .venv/bin/python -m pytest "$@"
