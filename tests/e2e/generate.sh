#!/bin/bash
# generate: batches, cuts, sessions and threads say the same; stop strings, whole
# characters, flat memory; bad inputs end in one line and the documented exit code.
set -eu
T=$(mktemp -d)
trap 'rm -rf "$T"' EXIT
n=0
ok()   { n=$((n + 1)); echo "ok $n - $1"; }
die()  { echo "not ok $((n + 1)) - $1"; exit 1; }
same() { cmp -s "$1" "$2" || { diff "$1" "$2" | head -5 >&2; die "$3"; }; ok "$3"; }

mkdir "$T/text"
for i in 1 2 3 4 5 6 7 8; do
    for j in 1 2 3 4 5 6 7 8; do
        echo "Line $j of text $i: the quick brown fox jumps over the lazy dog; für 3 € und ein 🙂."
    done > "$T/text/$i.txt"
done
cat > "$T/tiny.ini" <<I
[model]
hidden_size = 32
num_hidden_layers = 2
vocab_size = 257
layer_pattern = GD
ffn_pattern = MLP
[layer.GD]
use = gated_deltanet
num_heads = 2
head_dim = 16
[layer.MLP]
use = swiglu
intermediate_size = 48
[linear]
quantizer = f32
[train]
steps = 5
batch_size = 2
seq_len = 64
lr = 1e-3
optimizer = adamw
objective = next_token
[data]
task = text
tokenizer = byte
[task]
train = $T/text
[run]
dir = $T/run
threads = 2
[generate]
temperature = 1
top_p = 0.95
top_k = 100
repetition_penalty = 1.1
seed = 3
I
"$CHIMERA" train "$T/tiny.ini" > "$T/train.log" 2>&1 || { cat "$T/train.log" >&2; die "training of a tiny model"; }
R=$T/run
gen() { "$CHIMERA" generate "$R" -q --ignore-end "$@"; }

# ---- the same text from the same words
gen -p "The quick" -n 80 > "$T/a"
gen -p "The quick" -n 80 > "$T/b"
same "$T/a" "$T/b" "the same seed draws the same text"
test "$(wc -c < "$T/a")" -ge 40 || die "80 tokens are some text"
gen -p "The quick" -n 80 --seed 4 > "$T/b"
cmp -s "$T/a" "$T/b" && die "another seed draws another text"
ok "another seed draws another text"
gen -p "The quick" -n 80 --stream 1 > "$T/b"
cmp -s "$T/a" "$T/b" && die "another stream draws another text"
ok "another stream draws another text"
for t in 1 3; do
    gen -p "The quick" -n 80 run.threads=$t > "$T/b"
    same "$T/a" "$T/b" "$t threads write what 2 do"
done
python3 -c 'open("'"$T"'/a", encoding="utf-8").read()' || die "output is valid UTF-8"
ok "output is valid UTF-8"
printf 'The quick' > "$T/p"
gen --prompt-file "$T/p" -n 80 > "$T/b"
same "$T/a" "$T/b" "a prompt from a file"
gen --prompt-file - -n 80 < "$T/p" > "$T/b"
same "$T/a" "$T/b" "a prompt from stdin"
"$CHIMERA" generate "$R" -p "The quick" -n 20 --ignore-end > "$T/b" 2> "$T/err"
test "$(wc -l < "$T/err")" = 1 && grep -q "tokens" "$T/err" || die "one line of figures on stderr"
ok "one line of figures on stderr"

# ---- batched equals alone
printf 'The\n\nLine 1 of text 2: the quick brown fox\nx\n€ und\nfox jumps over the lazy dog; f\n7\n' > "$T/lines"
gen --prompts "$T/lines" -n 60 -o jsonl > "$T/many"
test "$(wc -l < "$T/many")" = 7 || die "a line for each prompt"
i=0
: > "$T/alone"
while IFS= read -r line; do
    gen -p "$line" --stream $i -n 60 -o jsonl | sed "s/\"index\":0/\"index\":$i/" >> "$T/alone"
    i=$((i + 1))
done < "$T/lines"
same "$T/many" "$T/alone" "a batch says what each says alone"
for b in 1 3 64; do
    gen --prompts "$T/lines" -n 60 -o jsonl --batch $b run.threads=1 > "$T/b"
    same "$T/many" "$T/b" "--batch $b changes nothing"
done
python3 - "$T/many" <<'P' || die "JSON lines are JSON"
import json, sys
for i, line in enumerate(open(sys.argv[1], encoding="utf-8")):
    o = json.loads(line)
    assert o["index"] == i and o["tokens"] == 60 and o["end"] == "length" and o["text"], o
P
ok "JSON lines are JSON"
gen --prompts "$T/lines" -n 5 > "$T/b"
test "$(grep -c '^==> [1-7]: .* <==$' "$T/b")" = 7 || die "a header for each prompt"
ok "a header for each prompt"

# ---- long prompts, cut anywhere
head -c 700 "$T/text/1.txt" > "$T/long"
gen --prompt-file "$T/long" -n 40 > "$T/a"
for at in 0 1 2 255 256 257 500 699; do
    head -c $at "$T/long" > "$T/p1"
    tail -c +$((at + 1)) "$T/long" > "$T/p2"
    gen --prompt-file "$T/p1" -n 0 --save-session "$T/s" > "$T/b"
    test ! -s "$T/b" || die "-n 0 writes nothing"
    gen --prompt-file "$T/p2" -n 40 --load-session "$T/s" > "$T/b"
    same "$T/a" "$T/b" "a prompt cut after $at bytes"
done

# ---- sessions
gen -p "Once" -n 150 > "$T/a"
for at in 0 1 7 50 149; do
    gen -p "Once" -n $at --save-session "$T/s" > "$T/b"
    gen --load-session "$T/s" -n $((150 - at)) >> "$T/b"
    same "$T/a" "$T/b" "a session saved after $at tokens goes on as if never stopped"
done
: > "$T/b"
gen -p "Once" -n 0 --save-session "$T/s"
for i in $(seq 30); do gen --load-session "$T/s" --save-session "$T/s" -n 5 run.threads=$((i % 3 + 1)) >> "$T/b"; done
gen -p "Once" -n 150 --save-session "$T/s2" > "$T/a"
same "$T/a" "$T/b" "30 saves and loads"
same "$T/s" "$T/s2" "and the session files are the same"

expect() {                      # code, words in the message, command line
    local want=$1 words=$2 code=0
    shift 2
    "$CHIMERA" generate "$@" > "$T/out" 2> "$T/err" < /dev/null || code=$?
    test $code = "$want" || { cat "$T/err" >&2; die "$*: exit code $code, not $want"; }
    grep -q -e "$words" "$T/err" || { cat "$T/err" >&2; die "$*: says '$words'"; }
    test ! -s "$T/out" || die "$*: nothing on stdout"
    ok "exit code $want: $words"
}
head -c 300 "$T/s" > "$T/cut"
expect 3 "session" "$R" --load-session "$T/cut"
expect 3 "not a session" "$R" --load-session "$T/tiny.ini"
python3 -c 'import sys; b = bytearray(open(sys.argv[1], "rb").read()); b[len(b) // 2] ^= 4; open(sys.argv[2], "wb").write(b)' "$T/s" "$T/flipped"
expect 3 "checksum" "$R" --load-session "$T/flipped"
"$CHIMERA" train "$T/tiny.ini" run.dir="$T/run2" run.seed=77 > "$T/train.log" 2>&1 || die "training another model"
expect 3 "other weights" "$T/run2" --load-session "$T/s"
"$CHIMERA" train "$T/tiny.ini" run.dir="$T/run3" model.num_hidden_layers=1 > "$T/train.log" 2>&1 || die "training a third model"
expect 3 "another model" "$T/run3" --load-session "$T/s"

# ---- stop strings and the end
gen -p "The quick" -n 200 > "$T/a"
# two letters that stand beside each other: replaced bytes are no bytes of the output
stop=$(grep -ao '[A-Za-z0-9][A-Za-z0-9]' "$T/a" | tail -n 1)
test -n "$stop" || die "200 tokens have two letters side by side"
gen -p "The quick" -n 200 --stop "$stop" --stop "never in any text" > "$T/b"
python3 - "$T/a" "$T/b" "$stop" <<'P' || die "text ends before the stop string"
import sys
a, b, stop = open(sys.argv[1], "rb").read(), open(sys.argv[2], "rb").read(), sys.argv[3].encode()
assert stop in a and b == a[:a.index(stop)], (stop, b)
P
ok "text ends before the stop string"

# ---- flat memory
peak() { /usr/bin/env python3 - "$CHIMERA" generate "$R" -q --ignore-end -p x -n "$1" <<'P'
import resource, subprocess, sys
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
P
}
few=$(peak 200)
many=$(peak 20000)
test $((many - few)) -le 1024 || die "memory grows from $few to $many kB"
ok "memory is flat: $few kB after 200 tokens, $many kB after 20000"

# ---- pipes and signals
set +e
gen -p x -n 1000000 2> "$T/err" | head -c 100 > /dev/null
code=${PIPESTATUS[0]}
set -e
test "$code" = 0 && test ! -s "$T/err" || die "a closed pipe ends quietly (exit code $code)"
ok "a closed pipe ends quietly"
rm -f "$T/b"
"$CHIMERA" generate "$R" -q --ignore-end -p "Once" -n 100000000 --save-session "$T/s" > "$T/b" &
pid=$!
while test ! -s "$T/b"; do sleep 0.05; done
kill -TERM $pid
code=0
wait $pid || code=$?
test $code = 143 || die "SIGTERM ends with 143, not $code"
had=$(wc -c < "$T/b")
gen --load-session "$T/s" -n 50 >> "$T/b"
gen -p "Once" -n 100000 | head -c "$(wc -c < "$T/b")" > "$T/a" || true
test "$(wc -c < "$T/b")" -gt "$had" || die "an interrupted session goes on"
if test "$(wc -c < "$T/a")" = "$(wc -c < "$T/b")"; then
    # the last character of b may be one that was cut off
    head -c -3 "$T/a" > "$T/a3"
    head -c -3 "$T/b" > "$T/b3"
    same "$T/a3" "$T/b3" "SIGTERM saves the session, which goes on"
fi

# ---- bad inputs
expect 2 "save-session holds one stream" "$R" -p a -p b --save-session "$T/x"
expect 2 "load-session holds one stream" "$R" -p a -p b --load-session "$T/s"
expect 2 "text or jsonl" "$R" -p a -o xml
expect 2 "batch" "$R" -p a --batch 0
expect 2 "stop" "$R" -p a --stop ""
expect 2 "temperature" "$R" -p a --temperature -1
expect 2 "max_new_tokens" "$R" -p a -n many
expect 2 "generate.top_k" "$R" -p a generate.top_k=x
expect 2 "stdin" "$R" --prompt-file - --prompts -
expect 2 "does not go with" "$R" --stream 2 --load-session "$T/s"
expect 2 "nowhere: no such file" "$R" --prompt-file "$T/nowhere"
expect 1 "nofolder" "$R" -p a --save-session "$T/nofolder/s"
expect 2 "nowhere: no such file" "$R" --load-session "$T/nowhere"
if test -w /dev/full; then
    code=0
    gen -p x -n 50 > /dev/full 2> "$T/err" || code=$?
    test $code = 5 && grep -q stdout "$T/err" || die "a full disk under stdout: exit code $code"
    ok "exit code 5: a full disk under stdout"
fi
echo "1..$n"
