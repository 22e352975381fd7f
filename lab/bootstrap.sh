#!/usr/bin/env bash
# Make the controller's virtual environment from the hashed locks: bootstrap.sh PYTHON VENV
set -euo pipefail

python=$1
venv=$2

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
  echo "bootstrap: $python is not Python 3.11 or newer; set PYTHON=/path/to/python3 to one that is" >&2
  exit 1
fi
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
  echo "bootstrap: installing python3-venv, which $python lacks" >&2
  as_root=()
  [ "$(id -u)" -eq 0 ] || as_root=(sudo)
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" apt-get install -y -qq --no-install-recommends python3-venv >/dev/null
fi

[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bootstrap.txt
"$venv/bin/uv" pip sync --quiet --python "$venv/bin/python" --require-hashes requirements/test.txt
"$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --no-deps --no-build-isolation --editable .

# The wheel's build has a virtual environment of its own: vyper and eth-account exclude each other.
build="$venv-build"
[ -x "$build/bin/python" ] || "$python" -m venv --without-pip "$build"
"$venv/bin/uv" pip sync --quiet --python "$build/bin/python" --require-hashes requirements/build.txt
"$build/bin/python" hatch_build.py
