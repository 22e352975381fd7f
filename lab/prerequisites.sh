#!/usr/bin/env bash
# Install what the lab needs from the system and does not find, and say what that is. Debian 12 and 13, Ubuntu 24.04 and newer.
set -euo pipefail

export PATH="$PATH:/usr/sbin:/sbin"

missing=()
need() { # need PACKAGE PROGRAM...: any one of the programs will do
  local package=$1 program
  shift
  for program in "$@"; do
    if command -v "$program" >/dev/null; then return; fi
  done
  missing+=("$package")
}

need podman podman
need runc runc crun
need iptables iptables
need mmdebstrap mmdebstrap
need openssh-client ssh-keygen
# What unit tests of files/snapshot run as a host does.
need aria2 aria2c
need zstd zstd
need lz4 lz4
# What unit tests run the edge's Lua with, as nginx does.
compgen -G '/usr/lib/*/lua/5.1/cjson.so' >/dev/null || missing+=(lua-cjson)
# What the audit looks at hosts from outside with.
need nmap nmap
# What unit tests show AppArmor profiles to; it needs no kernel that has AppArmor.
need apparmor apparmor_parser
# What `make pin-releases` and its tests check signatures with.
need gnupg gpg
# What `make bench SUITE=host` calls the edge with, while it is flooded.
need hey hey
# What tests of the engine's storage and bus start on loopback, as throwaway servers.
need redis-server redis-server
[ -n "$(find /usr/lib/postgresql -path '*/bin/initdb' 2>/dev/null)" ] || missing+=(postgresql)
# What sets the clock of an engine under test, and of nothing else.
compgen -G '/usr/lib/*/faketime/libfaketimeMT.so.1' >/dev/null || missing+=(libfaketime)
# The image is made of Debian's packages, whose signatures Ubuntu's own keys do not prove.
[ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || missing+=(debian-archive-keyring)

[ ${#missing[@]} -gt 0 ] || exit 0

if ! command -v apt-get >/dev/null; then
  echo "lab: this machine lacks ${missing[*]}, and no apt-get to install them with: the lab runs on Debian and Ubuntu" >&2
  exit 1
fi
as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "lab: this machine lacks ${missing[*]}: install them as root, or install sudo" >&2
    exit 1
  fi
  as_root=(sudo)
fi

echo "lab: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
