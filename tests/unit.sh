#!/bin/sh
# Runs a Criterion program so that the TAP driver can read it.
exec "$@" --tap=/dev/stdout --quiet
