#!/usr/bin/env bash
# kafka-server-stop.sh [--node-id N] [--process-role R]: asks brokers on this machine to end (SIGTERM, or SIGNAL).
# Brokers are found by name and by what they were told to do; --node-id and --process-role look into their --config file.
set -euo pipefail
node= role=
while [ $# -gt 0 ]; do
  case $1 in
    --node-id=*) node=${1#*=} ;;
    --node-id) node=${2:?--node-id needs a value}; shift ;;
    --process-role=*) role=${1#*=} ;;
    --process-role) role=${2:?--process-role needs a value}; shift ;;
    *) echo "USAGE: $0 [--node-id N] [--process-role broker|controller]" >&2; exit 1 ;;
  esac
  shift
done

setting() { # file key
  sed -n "s/^[[:space:]]*$2[[:space:]]*[=:][[:space:]]*//p" "$1" | tail -n 1
}

matches() { # config file
  [ -z "$node$role" ] && return 0
  [ -r "$1" ] || return 1
  [ -z "$node" ] || [ "$(setting "$1" 'node\.id')" = "$node" ] || return 1
  [ -z "$role" ] || [[ ",$(setting "$1" 'process\.roles')," == *",$role,"* ]]
}

found=
for folder in /proc/[0-9]*; do
  [ "$(cat "$folder/comm" 2>/dev/null)" = ottla ] || continue
  mapfile -d '' -t words < "$folder/cmdline" || continue
  config= starts=
  for ((at = 1; at < ${#words[@]}; at++)); do
    case ${words[at]} in
      start) starts=yes ;;
      --config|-c) config=${words[at + 1]:-} ;;
    esac
  done
  if [ -z "$starts" ] || ! matches "$config"; then continue; fi
  kill -s "${SIGNAL:-TERM}" "${folder#/proc/}"
  found=yes
done
if [ -z "$found" ]; then
  echo "No kafka server to stop" >&2
  exit 1
fi
