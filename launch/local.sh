#!/usr/bin/env bash
# Trains on all GPUs of this machine in one process: the simplest way.
#
#   launch/local.sh --config=FILE[:variant] --workdir=DIR [--config.KEY=VALUE]...
#     --dry_run  prints the command and runs nothing
#
# The same command again continues from the newest checkpoint. Paths are those of this repository.
# CUDA_VISIBLE_DEVICES=0,1 chooses GPUs; PYTHON=... the interpreter.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/options.sh

only_main_options "$@"
python=$(python_here)

# Unsets the variables of a surrounding SLURM allocation: this is a single process.
command=(env -u JAX_COORDINATOR_ADDRESS -u JAX_NUM_PROCESSES -u JAX_PROCESS_ID -u SLURM_PROCID
  "$python" -m amlr_jax.main "${main_options[@]}")
if [ -n "$dry_run" ]; then
  print_command "${command[@]}"
  exit
fi
exec "${command[@]}"
