#!/usr/bin/env bash
# Kafka's storage tool: format, info, random-uuid, version-mapping, feature-dependencies.
set -euo pipefail
exec "${OTTLA_BIN:-$(command -v ottla || echo "$(dirname "$(readlink -f "$0")")/ottla")}" storage "$@"
