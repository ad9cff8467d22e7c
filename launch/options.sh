# shellcheck shell=bash
# Sourced by the other scripts: shared options, and the command.

main_options=() workdir=

bad_option() {
  echo "error: $1" >&2
  exit 2
}

# main_option OPTION: stores an option of amlr_jax.main; others are an error.
main_option() {
  case $1 in
    --workdir=?*) workdir=${1#--workdir=} ;;
    --config=?* | --config.?*=* | --noconfig.?*) ;;
    --config | --workdir) bad_option "$1 needs its value in one word: $1=VALUE" ;;
    *) bad_option "unknown option '$1'; the first lines of launch/$(basename "$0") name all" ;;
  esac
  main_options+=("$1")
}

# whole_number NAME VALUE: an error unless VALUE is 1 or more.
whole_number() {
  [[ $2 =~ ^[1-9][0-9]*$ ]] || bad_option "$1 must be a whole number from 1, got '$2'"
}

# check_main_options: an error unless a config and a workdir were given.
check_main_options() {
  [[ " ${main_options[*]} " == *" --config="* ]] || bad_option "--config=FILE[:variant] is needed"
  [ -n "$workdir" ] || bad_option "--workdir=DIR is needed"
}

# only_main_options OPTION...: for a script whose only other option is --dry_run.
only_main_options() {
  local option
  # shellcheck disable=SC2034 # the script reads it
  dry_run=
  for option in "$@"; do
    case $option in
      --dry_run) dry_run=1 ;;
      *) main_option "$option" ;;
    esac
  done
  check_main_options
}

# python_here: the interpreter, $PYTHON or that of .venv or the first in PATH.
python_here() {
  local candidate
  for candidate in "${PYTHON:-}" .venv/bin/python python3 python; do
    if [ -n "$candidate" ] && command -v "$candidate" >/dev/null; then
      echo "$candidate"
      return
    fi
  done
  bad_option "no Python found; set PYTHON=/path/to/python"
}

# print_command WORD...: on one line, quoted for the shell.
print_command() {
  printf '%q ' "$@" | sed 's/ $//'
  echo
}
