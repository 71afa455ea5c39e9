#!/usr/bin/env bash
# Installs what is missing: Debian packages, and a virtual environment with the pinned Python packages.
# usage: tools/setup.sh [torch]      (torch: .venv-torch, which benchmarks use, else .venv)
set -eu
cd "$(dirname "$0")/.."

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"
  elif command -v sudo >/dev/null; then sudo "$@"
  else echo "setup: needs root for: $*" >&2; exit 1
  fi
}

install_packages() {
  local missing=()
  command -v dpkg-query >/dev/null || { echo "setup: not Debian; expecting tools/packages.txt by other means"; return; }
  for package in "$@"; do
    dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
  done
  [ ${#missing[@]} = 0 ] && return
  echo "setup: installing ${missing[*]}"
  as_root apt-get -o DPkg::Lock::Timeout=600 update -q
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 install -y -q --no-install-recommends "${missing[@]}"
}

# A Python that can make environments and compile extensions.
usable() {
  command -v "$1" >/dev/null && "$1" - <<'PY' >/dev/null 2>&1
import ensurepip, os, sys, sysconfig, venv
sys.exit(sys.version_info < (3, 11) or not os.path.exists(sysconfig.get_path("include") + "/Python.h"))
PY
}

find_python() {
  local candidate
  for candidate in "${PYTHON:-python3}" python3.11 python3.12 python3.13 /usr/bin/python3; do
    if usable "$candidate"; then "$candidate" -c 'import sys; print(sys.executable)'; return; fi
  done
}

# The lines of constraints.txt before "# [torch]", or all of them.
requirements() {
  if [ "$1" = torch ]; then cat constraints.txt; else sed '/^# \[torch\]/,$d' constraints.txt; fi
}

kind=${1:-base}
venv=.venv
[ "$kind" = torch ] && venv=.venv-torch

mapfile -t packages < tools/packages.txt
install_packages "${packages[@]}"

python=$(find_python)
if [ -z "$python" ]; then
  install_packages python3 python3-venv python3-dev
  python=$(find_python)
  [ -n "$python" ] || { echo "setup: needs Python >= 3.11 with venv and headers; set PYTHON" >&2; exit 1; }
fi
[ -x $venv/bin/python ] || "$python" -m venv $venv
requirements "$kind" > $venv/requirements.txt
$venv/bin/python -m pip install -q --disable-pip-version-check --no-deps -r $venv/requirements.txt

# Run from the tree: the build puts its libraries into python/fluxion.
site=$($venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
echo "$PWD/python" > "$site/fluxion.pth"
printf '#!/bin/sh\nexec "%s/%s/bin/python" -m fluxion.cli "$@"\n' "$PWD" "$venv" > $venv/bin/fluxion
chmod +x $venv/bin/fluxion
touch $venv/.stamp
