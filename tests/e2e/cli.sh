#!/bin/sh
# The program's surface: version, help of every verb, what a typing error leads to, exit codes.
set -eu
. "$srcdir/tests/e2e/lib.sh"

run 0 "$CHIMERA" --version
says out '^chimera [0-9]+\.[0-9]+'
# Under 20 ms; the best of 20, because this machine may be busy with other tests
best=1000
i=0
while [ $i -lt 20 ]; do
    start=$(date +%s%N)
    "$CHIMERA" --version >/dev/null
    took=$((($(date +%s%N) - start) / 1000000))
    [ $took -ge $best ] || best=$took
    i=$((i + 1))
done
if [ $best -lt 20 ]; then ok; else no "--version takes $best ms"; fi

run 0 "$CHIMERA" --help
long=$("$CHIMERA" --help | awk 'length > 80')
[ -z "$long" ] && ok || no "--help is wider than 80 columns: $long"
verbs=$("$CHIMERA" --help | awk '/^  [a-z]+ +[a-z]/ && $1 != "chimera" { print $1 }')
[ "$(echo "$verbs" | wc -l)" -ge 17 ] && ok || no "--help lists fewer verbs than there are: $verbs"
"$CHIMERA" --man >"$tmp/man"
for verb in $verbs; do
    run 0 "$CHIMERA" "$verb" --help
    says out "chimera $verb"
    # An example is a line that could be typed.
    if grep -A 20 -i '^example' "$tmp/out" | grep -q "chimera $verb"; then ok
    else no "$verb --help has no example"; fi
    # The tour of commands in the README and the manual page have each verb.
    grep -q "^| .*\`$verb\`.* |" "$srcdir/README.md" && ok || no "README.md has no $verb in its table of commands"
    grep -q "^\.SS chimera $verb " "$tmp/man" && ok || no "the manual page has no $verb"
    bad 2 'unknown (flag|option).*--no-such-flag|--no-such-flag' "$CHIMERA" "$verb" --no-such-flag
done

# Typing errors
bad 2 'train' "$CHIMERA" trian conf.ini
bad 2 'generate' "$CHIMERA" generte run
bad 2 'plugins' "$CHIMERA" plugin
bad 2 'did you mean --prompt' "$CHIMERA" generate "$tmp" --promt text
run 2 "$CHIMERA"
says err 'chimera VERB --help'
says err 'chimera: which verb'
[ ! -s "$tmp/out" ] && ok || no "usage that nobody asked for is on standard output"
run 0 "$CHIMERA" help
says out 'chimera VERB --help'
bad 2 'config|CONF|RUN' "$CHIMERA" train
bad 2 "unexpected word 'b'" "$CHIMERA" eval a b

# Read-only verbs
run 0 "$CHIMERA" plugins
says out 'gated_deltanet'
says out 'ternary'
run 0 "$CHIMERA" config "$srcdir/conf/tiny.ini" layer.GD.num_heads=4
says out 'command line'
says out 'tiny\.ini:[0-9]+'
says out 'num_heads *= *4'
# What config prints is a configuration, and means the same.
cp "$tmp/out" "$tmp/resolved.ini"
run 0 "$CHIMERA" config "$tmp/resolved.ini"
says out 'num_heads *= *4'
for conf in tiny quickstart anchor; do
    run 0 "$CHIMERA" config "$srcdir/conf/$conf.ini"
done
run 0 "$CHIMERA" inspect "$srcdir/conf/quickstart.ini"
says out 'param'
says out 'state'
# An option without '=' prints what it means.
run 0 "$CHIMERA" config "$srcdir/conf/tiny.ini" model.hidden_size
says out 'width'

# Output that nobody reads any more is no crash.
for verb in plugins --help; do
    rc=0
    { "$CHIMERA" "$verb" 2>"$tmp/err"; echo $? >"$tmp/rc"; } | head -n 1 >/dev/null || rc=$?
    case $(cat "$tmp/rc") in
        0|1|141) ok ;;
        *) no "chimera $verb into a closed pipe: exit code $(cat "$tmp/rc")" ;;
    esac
done
finish
