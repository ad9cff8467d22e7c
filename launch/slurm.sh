#!/usr/bin/env bash
# Trains on several machines under SLURM, one process per GPU; requeues at the time limit.
#
#   sbatch [--nodes=N ...] launch/slurm.sh --config=FILE[:variant] --workdir=DIR
#     [--config.KEY=VALUE]...
#     --dry_run  without sbatch: prints what the job would run
#
# Call it from the repository; sbatch options before the script override those here. One
# process per machine: --ntasks-per-node=1 with more --cpus-per-task. Request GPUs per
# node, not per task. DIR must be on a shared file system; each process writes
# DIR/logs/process_K.log.
#
# Two minutes before the time limit the processes get SIGTERM, save and end with status
# 75; the job is then requeued and resumes. scancel ends it.
#SBATCH --job-name=amlr_jax
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=amlr_jax_%j.log
set -euo pipefail
# SLURM runs a copy of this script in another folder.
cd "${SLURM_SUBMIT_DIR:-$(dirname "${BASH_SOURCE[0]}")/..}"
if [ ! -f launch/options.sh ]; then
  echo "error: '$PWD' is not the repository; call sbatch from there" >&2
  exit 2
fi
source launch/options.sh

only_main_options "$@"
python=$(python_here)

# jax.distributed reads SLURM_*. --kill-on-bad-exit ends all processes if one fails.
command=(srun --kill-on-bad-exit=1 --mpi=none --open-mode=append
  "--output=$workdir/logs/process_%t.log" "$python" -m amlr_jax.main "${main_options[@]}")
if [ -n "$dry_run" ]; then
  mapfile -t asked < <(sed -n 's/^#SBATCH //p' launch/slurm.sh)
  print_command sbatch "${asked[@]}" launch/slurm.sh "${main_options[@]}"
  print_command "${command[@]}"
  exit
fi
[ -n "${SLURM_JOB_ID:-}" ] || bad_option "start it with sbatch, or see what it would run with --dry_run"
mkdir -p "$workdir/logs"

# This shell gets SIGTERM from scancel and from a pre-emption, after which SLURM requeues
# the job; at the time limit only the processes get it.
cancelled=
trap 'cancelled=1' TERM
status=0
"${command[@]}" &
srun_process=$!
while :; do
  status=0
  wait "$srun_process" || status=$?
  kill -0 "$srun_process" 2>/dev/null || break # a trap ends `wait`, not srun
done
if [ "$status" -eq 75 ] && [ -z "$cancelled" ]; then
  echo "saved; queueing job $SLURM_JOB_ID again"
  exec scontrol requeue "$SLURM_JOB_ID"
fi
[ "$status" -eq 0 ] || echo "error: status $status; see $workdir/logs/process_*.log" >&2
exit "$status"
