#!/bin/sh
# llama_cpp.sh - prints the folder of llama.cpp's shared libraries, prebuilt, from npm; fetched once into the folder
# that it is called in.  LLAMA_CPP: another version of the package, or a folder of such libraries.
# 77: no npm, or no package for this machine.
set -eu
version=${LLAMA_CPP:-3.22.1}
case $version in */*) echo "$version"; exit 0;; esac
package=@node-llama-cpp/linux-x64 folder=$PWD/llama.cpp/$version
libraries=$folder/node_modules/$package/bins/linux-x64
if [ ! -d "$libraries" ]; then
    command -v npm >/dev/null 2>&1 || { echo "skipped: no npm" >&2; exit 77; }
    mkdir -p "$folder"
    (cd "$folder" && npm init -y && npm install --no-audit --no-fund "$package@$version") >"$folder/log" 2>&1 ||
        { echo "skipped: $package cannot be installed: $(tail -n 2 "$folder/log")" >&2; exit 77; }
fi
echo "$libraries"
