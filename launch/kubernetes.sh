#!/usr/bin/env bash
# Several machines under Kubernetes with JobSet: one pod and one process a machine.
#
#   launch/kubernetes.sh --name=NAME --image=IMAGE --hosts=N --gpus=G
#     --config=FILE[:variant] --workdir=/runs/DIR [--config.KEY=VALUE]...
#     --data=CLAIM  the volume claim of the data, mounted as /data: default data
#     --runs=CLAIM  that of workdirs and prepared data, as /runs: default runs; it must
#                   be one that several machines may write (ReadWriteMany)
#     --dry_run     prints the manifest and applies nothing
#
# IMAGE holds this repository as its working directory, installed with the extras train
# and cuda12 or cuda13. The cluster needs JobSet 0.6 or newer. A pod that is evicted or
# pre-empted saves and ends with status 75, and all go on when there is room again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/options.sh

dry_run='' name='' image='' hosts='' gpus='' data=data runs=runs
for option in "$@"; do
  case $option in
    --dry_run) dry_run=1 ;;
    --name=*) name=${option#*=} ;;
    --image=*) image=${option#*=} ;;
    --hosts=*) hosts=${option#*=} && whole_number --hosts "$hosts" ;;
    --gpus=*) gpus=${option#*=} && whole_number --gpus "$gpus" ;;
    --data=*) data=${option#*=} ;;
    --runs=*) runs=${option#*=} ;;
    *) main_option "$option" ;;
  esac
done
check_main_options
# A label of DNS; the pods' names are 16 characters longer and may have 63.
label='^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$'
[[ $name =~ $label ]] || bad_option "--name must be lower-case letters, digits and '-', at most 40; got '$name'"
for claim in "$data" "$runs"; do
  [[ $claim =~ ^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$ ]] || bad_option "--data and --runs must be names of volume claims, got '$claim'"
done
[[ $image =~ ^[A-Za-z0-9][A-Za-z0-9._:/@-]*$ ]] || bad_option "--image=IMAGE is needed, got '$image'"
[ -n "$hosts" ] || bad_option "--hosts=N is needed"
[ -n "$gpus" ] || bad_option "--gpus=G of each host is needed"
[[ $workdir == /runs/* ]] || bad_option "--workdir must be under /runs, which all pods share; got '$workdir'"

# JSON strings, which YAML reads: \ and " of an option are kept.
arguments=
for option in "${main_options[@]}"; do
  option=${option//\\/\\\\}
  arguments+=", \"${option//\"/\\\"}\""
done

manifest=$(<launch/kubernetes.yaml)
fill() {
  local left=$manifest
  manifest=
  while [[ $left == *"\${$1}"* ]]; do # not ${a//b/c}: there bash 5.2 reads & in c
    manifest+=${left%%"\${$1}"*}$2
    left=${left#*"\${$1}"}
  done
  manifest+=$left
}
manifest=$(sed '/^ *#/d' <<<"$manifest")
fill NAME "$name"
fill IMAGE "$image"
fill HOSTS "$hosts"
fill GPUS "$gpus"
fill DATA "$data"
fill RUNS "$runs"
fill ARGUMENTS "[${arguments#, }]"

if [ -n "$dry_run" ]; then
  echo "$manifest"
  exit
fi
command -v kubectl >/dev/null || bad_option "no kubectl found; --dry_run prints the manifest"
kubectl apply -f - <<<"$manifest"
