#!/bin/sh
# The program of build/ with the plugins of build/, without installing either.
root=$(cd "$(dirname "$0")" && pwd)
CHIMERA_BUILD_PLUGINS=$root/build/plugins
export CHIMERA_BUILD_PLUGINS
exec "$root/build/chimera" "$@"
