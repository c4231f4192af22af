#!/bin/bash
# Runs ./quickstart in a Debian 12 that holds nothing but its base: is the list of packages
# complete?  Needs root and mmdebstrap, fetches about 200 MB: `make check-bare`, not part of
# `make check`.  bare.sh [WORD...]: what to hand to quickstart (default: build).
set -eu
export LC_ALL=C
root=$(cd "$(dirname "$0")/.." && pwd)
[ "$(id -u)" = 0 ] || { echo "bare.sh: needs root (chroot); skipped"; exit 77; }
command -v mmdebstrap >/dev/null || { echo "bare.sh: needs the package mmdebstrap; skipped"; exit 77; }
if [ "${BARE_INNER:-}" != yes ]; then
    # Mounts and processes of the inner system end with this call.
    BARE_INNER=yes exec unshare --mount --pid --fork --kill-child bash "$0" "$@"
fi
[ $# -gt 0 ] || set -- build
dir=$(mktemp -d "${TMPDIR:-/tmp}/chimera-bare.XXXXXX")
trap 'umount -l "$dir/sys/proc" "$dir/sys/dev" 2>/dev/null; rm -rf --one-file-system "$dir"' EXIT
echo "making a minimal Debian 12 in $dir"
mmdebstrap --quiet --variant=minbase bookworm "$dir/base.tar"
mkdir "$dir/sys"
tar -xf "$dir/base.tar" -C "$dir/sys" --exclude='./dev/*'
rm "$dir/base.tar"
mkdir -p "$dir/sys/src" "$dir/sys/proc" "$dir/sys/dev"
mount -t proc proc "$dir/sys/proc"
mount --rbind /dev "$dir/sys/dev"
mount --make-rslave "$dir/sys/dev"
cp -L /etc/resolv.conf "$dir/sys/etc/resolv.conf"
cp -r /etc/apt/apt.conf.d/. "$dir/sys/etc/apt/apt.conf.d/"
# The container habit of leaving documentation out must not harm.
echo 'path-exclude /usr/share/doc/*' >"$dir/sys/etc/dpkg/dpkg.cfg.d/no-doc"
(cd "$root" && git ls-files -z | tar --null -cf - -T -) | tar -xf - -C "$dir/sys/src"
rm -rf "$dir/sys/var/lib/apt/lists"/*
chroot "$dir/sys" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb \
    sh -c 'cd /src && ./quickstart "$@"' quickstart "$@" </dev/null
if [ "$1" = build ]; then
    chroot "$dir/sys" /src/build/chimera --version
fi
echo "ok: ./quickstart $* in a bare Debian 12"
