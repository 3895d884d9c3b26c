#!/usr/bin/env bash
# kafka-server-start.sh [-daemon] server.properties [--override key=value]...
# With -daemon the broker goes on in the background; what it says goes to $LOG_DIR/kafkaServer.out.
set -euo pipefail
usage() {
  echo "USAGE: $0 [-daemon] server.properties [--override property=value]*" >&2
  exit 1
}
ottla=${OTTLA_BIN:-$(command -v ottla || echo "$(dirname "$(readlink -f "$0")")/ottla")}
daemon=
if [ "${1:-}" = "-daemon" ]; then
  daemon=yes
  shift
fi
[ $# -ge 1 ] || usage
settings=$1
shift
if [ -n "$daemon" ]; then
  logs=${LOG_DIR:-$(dirname "$(readlink -f "$0")")/../logs}
  mkdir -p "$logs"
  nohup "$ottla" start --config "$settings" "$@" > "$logs/kafkaServer.out" 2>&1 < /dev/null &
  exit 0
fi
exec "$ottla" start --config "$settings" "$@"
