# shellcheck shell=bash
# Sourced by the other scripts: creates .venv with an extra of this project.
# Uses $PYTHON, or the first Python of 3.11 or newer that it finds.

find_python() {
  local candidate
  for candidate in ${PYTHON:-} python3 python3.13 python3.12 python3.11 python; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo "error: no Python of 3.11 or newer found; set PYTHON=/path/to/python" >&2
  return 1
}

# install EXTRA: .venv with `.[EXTRA]`, again only when setup.cfg has changed.
install() {
  local extra=$1 stamp python
  stamp=.venv/installed-$extra
  if [ -x .venv/bin/python ] && [ -f "$stamp" ] && cmp -s setup.cfg "$stamp"; then
    return
  fi
  if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    python=$(find_python)
    echo "Making .venv with $("$python" --version)"
    "$python" -m venv --clear .venv
  fi
  echo "Installing amlr_jax[$extra] into .venv"
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[$extra]"
  cp setup.cfg "$stamp"
}
