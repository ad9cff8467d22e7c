#!/usr/bin/env bash
# Creates the environment, installs, and runs the main command on the embedded street.
# Options are passed on, e.g. ./launch/demo.sh --config.steps=50
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/environment.sh

install train
exec .venv/bin/python -m amlr_jax.main --config=configs/demo.py --workdir=runs/demo "$@"
