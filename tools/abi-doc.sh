#!/bin/sh
# abi-doc.sh - prints doc/abi.md: doc/abi.in.md with the reference in place of @reference@, which is
# taken from the headers: an index of all structs, and then every struct with the comment above it.
# abi-doc.sh SOURCE-FOLDER
set -eu
headers=$1/core/include/chimera
LC_ALL=C
export LC_ALL
list="base option plugin host kernel layer loop format train data"
for h in "$headers"/*.h; do
    name=$(basename "$h" .h)
    case " $list math " in *" $name "*) ;; *) list="$list $name" ;; esac
done

reference() {
    echo '| struct | header | passed | may get members at its end |'
    echo '|---|---|---|---|'
    for name in $list; do
        [ -e "$headers/$name.h" ] || continue
        awk -v header="$name.h" '
            /^struct chi_[a-z_]* \{.*\};/ { one = 1 }
            /^struct chi_[a-z_]* \{/ {
                s = $2; up = s ~ /_ops$/ || s == "chi_kernels"
                if (s == "chi_plan_ops" || s == "chi_files") up = 0
                sized = 0; inside = 1
            }
            inside && /uint32_t +struct_size;/ { sized = 1 }
            inside && (/^\};/ || one) {
                grows = sized && s !~ /^chi_(plugin|component|linear_kernel)$/ || s == "chi_run" ? "yes" : "no"
                way = up || s ~ /^chi_(plugin|component|option|linear_kernel)$/ ? "plugin to core" : "core to plugin"
                printf "| `%s` | %s | %s | %s |\n", s, header, way, grows
                inside = one = 0
            }' "$headers/$name.h"
    done
    for name in $list; do
        [ -e "$headers/$name.h" ] || continue
        printf '\n### %s.h\n\n```c\n' "$name"
        sed '/^#\(ifndef\|define\) CHIMERA_/d; $d' "$headers/$name.h" | cat -s
        printf '```\n'
    done
}

sed '/^@reference@$/,$d' "$1/doc/abi.in.md"
reference
sed '1,/^@reference@$/d' "$1/doc/abi.in.md"
