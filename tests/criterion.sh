#!/bin/sh
# Runs a Criterion program so that it speaks TAP.
exec "$1" --tap=/dev/stdout --quiet
