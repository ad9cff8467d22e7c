#!/usr/bin/env bash
# Trains with one process per GPU on this machine: where one process cannot read images
# fast enough for the GPUs, and to test a multi-machine run on one machine.
#
#   launch/multiprocess.sh --config=FILE[:variant] --workdir=DIR [--config.KEY=VALUE]...
#     --processes=N  how many; otherwise the GPUs of CUDA_VISIBLE_DEVICES or nvidia-smi
#     --cpu          on the CPU; N must be given
#     --port=P       of process 0 on localhost; otherwise a free one
#     --grace=S      seconds until the others are killed when one has failed: 20
#     --dry_run      prints the commands and runs nothing
#
# Prints the output of process 0; each writes DIR/logs/process_K.log. If one fails, the
# script exits with its status. SIGTERM and SIGINT are passed on: the run saves and exits,
# after SIGTERM with status 75, which requests a restart.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/options.sh

dry_run='' cpu='' processes='' port='' grace=20
for option in "$@"; do
  case $option in
    --dry_run) dry_run=1 ;;
    --cpu) cpu=1 ;;
    --processes=*) processes=${option#*=} && whole_number --processes "$processes" ;;
    --port=*) port=${option#*=} && whole_number --port "$port" ;;
    --grace=*) grace=${option#*=} && whole_number --grace "$grace" ;;
    *) main_option "$option" ;;
  esac
done
check_main_options
python=$(python_here)

count_gpus() {
  if [ -n "${CUDA_VISIBLE_DEVICES:-}" ]; then
    tr ',' '\n' <<<"$CUDA_VISIBLE_DEVICES" | grep -c .
  elif command -v nvidia-smi >/dev/null; then
    nvidia-smi --list-gpus | grep -c '^GPU' || true
  else
    echo 0
  fi
}

if [ -z "$processes" ]; then
  [ -z "$cpu" ] || bad_option "--cpu needs --processes=N"
  processes=$(count_gpus)
  [ "$processes" -gt 0 ] || bad_option "no GPU found; for the CPU give --cpu --processes=N"
fi
free_port='import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])'
port=${port:-$("$python" -c "$free_port")}

# command_of K: sets `command` to what process K runs.
command_of() {
  command=(env "JAX_COORDINATOR_ADDRESS=localhost:$port" "JAX_NUM_PROCESSES=$processes"
    "JAX_PROCESS_ID=$1")
  if [ -n "$cpu" ]; then
    command+=(JAX_PLATFORMS=cpu)
  else
    command+=("JAX_LOCAL_DEVICE_IDS=$1")
  fi
  command+=("$python" -m amlr_jax.main "${main_options[@]}")
}

if [ -n "$dry_run" ]; then
  for ((k = 0; k < processes; k++)); do
    command_of "$k"
    print_command "${command[@]}"
  done
  exit
fi

logs=$workdir/logs
mkdir -p "$logs" || bad_option "workdir '$workdir' cannot be written; choose another with --workdir=DIR"
pids=()
signal_all() {
  local pid
  for pid in "${pids[@]}"; do
    kill "-$1" -- "-$pid" 2>/dev/null || true
  done
}
trap 'signal_all TERM' TERM
trap 'signal_all INT' INT
trap 'signal_all KILL' EXIT

set -m # each process in a separate group: it gets Ctrl-C once, through the trap
for ((k = 0; k < processes; k++)); do
  command_of "$k"
  log=$logs/process_$k.log
  if [ "$k" -eq 0 ]; then
    "${command[@]}" </dev/null \
      > >(trap '' INT TERM && exec tee -a "$log") \
      2> >(trap '' INT TERM && exec tee -a "$log" >&2) &
  else
    "${command[@]}" </dev/null >>"$log" 2>&1 &
  fi
  pids+=($!)
done

# Polls, because `wait -n` does not name the process before bash 5.1.
status=0 running=("${!pids[@]}") deadline=
while [ ${#running[@]} -gt 0 ]; do
  sleep 0.2 || true
  still=()
  worst=0 failed=
  for k in "${running[@]}"; do
    if kill -0 "${pids[k]}" 2>/dev/null; then
      still+=("$k")
      continue
    fi
    one=0
    wait "${pids[k]}" 2>/dev/null || one=$?
    # The highest status: that of a killed process, not of those that lost their peer.
    if [ "$one" -gt "$worst" ]; then worst=$one failed=$k; fi
  done
  running=("${still[@]+"${still[@]}"}")
  if [ "$worst" -gt 0 ] && [ "$status" -eq 0 ]; then
    status=$worst deadline=$((SECONDS + grace))
    [ "$status" -eq 75 ] || echo "error: process $failed ended with status $status; see $logs/process_$failed.log" >&2
  fi
  if [ -n "$deadline" ] && [ "$SECONDS" -ge "$deadline" ]; then
    signal_all KILL
  fi
done
trap - EXIT
exit "$status"
