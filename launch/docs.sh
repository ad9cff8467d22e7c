#!/usr/bin/env bash
# The documentation as a site on http://127.0.0.1:8000, rebuilt when a page changes.
#
#   launch/docs.sh          serves it until Ctrl-C; options are passed on to mkdocs
#   launch/docs.sh --build  writes it to build/site; a broken link is an error
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/environment.sh

install docs
case ${1:-} in
  --build) exec .venv/bin/python -m mkdocs build --strict --site-dir=build/site ;;
  *) exec .venv/bin/python -m mkdocs serve "$@" ;;
esac
