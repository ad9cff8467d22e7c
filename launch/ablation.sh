#!/usr/bin/env bash
# Trains the runs of a study with each seed and writes its table; skips finished runs.
#   ./launch/ablation.sh --study=configs/ablations/amlr.py:street --output=runs/ablation
# --gpus=0,1 trains one run at a time on each GPU. Uses the Python that has amlr_jax, or
# creates .venv if none has.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/environment.sh

python=${PYTHON:-python}
if ! "$python" -c 'import amlr_jax, clu, jax' 2>/dev/null; then
  install train
  python=.venv/bin/python
fi
exec "$python" -m amlr_jax.ablation "$@"
