#!/bin/sh
# chimera init: a folder that generate, eval, inspect and bench take in the place of a run; in little memory, whole or
# absent.  Prompts of ids, an allowed set, streams and a memory budget on such a model.
set -eu
. "$srcdir/tests/e2e/lib.sh"
make_corpus
cd "$tmp"
cat >small.ini <<'END'
[model]
hidden_size = 64
num_hidden_layers = 4
vocab_size = 300
layer_pattern = GD XM
ffn_pattern = MLP MOE
[layer.GD]
use = gated_deltanet
num_heads = 2
head_dim = 32
[layer.XM]
use = mlstm
num_heads = 2
head_dim = 32
[layer.MLP]
use = swiglu
intermediate_size = 64
[layer.MOE]
use = moe
n_routed_experts = 4
num_experts_per_tok = 2
moe_intermediate_size = 64
[loop]
use = parcae
prelude = 0
loop = 1-2
coda = 3
[linear]
quantizer = ternary
group_size = 64
extra_rmsnorm = yes
[linear.*.ffn.*]
encoding = tl2
[linear.embed]
quantizer = int8
[generate]
temperature = 0
max_new_tokens = 12
[run]
threads = 1
END
same() {
    if cmp -s "$1" "$2"; then ok; else no "$3"; fi
}

# ---- a rule with the quantizer of [linear] takes its options, another quantizer's rule its own
run 0 "$CHIMERA" config small.ini
if sed -n '/^\[linear\.\*\.ffn/,/^$/p' out | grep -q 'group_size *= 64'; then ok; else no "[linear.*.ffn.*] has another group_size"; fi
run 0 "$CHIMERA" config small.ini 'linear.*.ffn.*.group_size=128'
if sed -n '/^\[linear\.\*\.ffn/,/^$/p' out | grep -q 'group_size *= 128'; then ok; else no "its own group_size is lost"; fi

# ---- the same files by one thread and by three, beside each other; never over what is there
run 0 "$CHIMERA" init small.ini
says err 'small is written: [0-9.]+ k start weights in .*, by way of at most [0-9.]+ MB'
run 0 "$CHIMERA" init small.ini run.threads=3 -o three
same small/model_experts.b158 three/model_experts.b158 "three threads write other experts"
[ "$(ls small)" = "$(printf 'model.b158\nmodel_experts.b158')" ] && ok || no "in the folder: $(ls small)"
bad 2 'small/model.b158 is there already' "$CHIMERA" init small.ini
bad 2 'is a file' "$CHIMERA" init small.ini -o small.ini
mkdir -p run/ckpt
cp small.ini run/config.ini
bad 2 'run is the folder of a run' "$CHIMERA" init small.ini -o run
bad 2 'packed model' "$CHIMERA" init small -o other
bad 2 'no such file' "$CHIMERA" init absent.ini
mkfifo pipe pipe.b158
{ cat small.ini >pipe; } &
run 0 "$CHIMERA" config pipe                        # read once, from its first byte
bad 3 'pipe.b158 is no regular file' "$CHIMERA" generate pipe.b158 --ids 1
bad 2 'sherry125 holds only a part|sherry125' "$CHIMERA" init small.ini linear.encoding=sherry125 'linear.*.ffn.*.encoding=' -o part
[ ! -e part ] && [ ! -e other ] && ok || no "a refused init leaves a folder"

# ---- the verbs that take a run
run 0 "$CHIMERA" inspect small
says out '^  int8 +19 kB|^  int8 +[0-9.]+ kB'
says out '^  tl2 of experts +[0-9.]+ kB'
says out 'with 1 turn .*state per stream'
says out 'with 2 turns .*state per stream'
for packed in small small/model.b158; do
    run 0 "$CHIMERA" plugins $packed "plugins.path=$tmp"
    says out "^  1\. $tmp  \(plugin path\)"
done
run 0 "$CHIMERA" bench small --read --steps 2
says out '^decode'
says out 'bytes of weights'
run 0 "$CHIMERA" eval small "task.train=$corpus/train" "task.heldout=$corpus/heldout" --limit 200
says out 'bits per byte|bpb'
run 0 "$CHIMERA" generate small -p "line" -q --ignore-end --temperature 1
cp out text

# ---- ids in, ids out: what the bytes' ids are, with END before them, says the same
ids=$(printf 'line' | od -An -tu1)
run 0 "$CHIMERA" generate small --ids "256 $ids" -q --temperature 1 --allow 0-256
[ "$(wc -w <out)" = 12 ] && ok || no "12 ids are wanted: $(cat out)"
cp out ids
printf '97-122' >letters
run 0 "$CHIMERA" generate small -p line -q --temperature 1 --allow letters
cp out text
run 0 "$CHIMERA" generate small --ids "256 $ids" -q --temperature 1 --allow letters
[ "$(tr ' ' '\n' <out | awk '{ printf "%c", $1 }')" = "$(cat text)" ] && ok || no "ids $(cat out), text $(cat text)"
run 0 "$CHIMERA" generate small --ids "256 $ids" -o jsonl --ids 1-3
says out '"prompt_ids":\[256,108,105,110,101\],"ids":\[[0-9,]+\],"tokens":12,"end":"length"'
says out '"prompt_ids":\[1,2,3\]'
bad 4 'absent_one.*--ids takes token ids, which need none' "$CHIMERA" generate small -p text data.tokenizer=absent_one
bad 2 '--ids: token 300, but ids are 0..299' "$CHIMERA" generate small --ids 300
bad 2 'found .x.' "$CHIMERA" generate small --ids "1 x"
bad 2 'ids does not go with' "$CHIMERA" generate small --ids 1 -p a
run 0 "$CHIMERA" generate small --ids "1 2" -n 1 --timing
says err 'first token after [0-9.]+ s'
says err 'read 2 tokens .*wrote 1 tokens'
run 0 "$CHIMERA" generate small --ids "1 2" --ids "3-7" -n 3
says err 'read 7 tokens .*wrote 6 tokens'
run 0 "$CHIMERA" generate small --ids "1 2" -n 0 --timing
says err 'no token: [0-9.]+ s until the weights were there, [0-9.]+ s for the prompt'

# ---- a session of ids goes on as one longer run
run 0 "$CHIMERA" generate small --ids "1 2" -q -n 6
cp out want
run 0 "$CHIMERA" generate small --ids "1 2" -q -n 2 --save-session ids.session
cp out first
run 0 "$CHIMERA" generate small --ids "" -q -n 4 --load-session ids.session
cat first out >both
same both want "a session of ids: $(cat both), in one: $(cat want)"
run 0 "$CHIMERA" generate small --ids "" -q -n 1 --load-session ids.session -o jsonl
says out '"prompt_ids":\[\],"ids":\[[0-9]+\]'
bad 2 'names no token' "$CHIMERA" generate small --ids ""

# ---- allowed: all ids change nothing; a few give only these; a set's likeliest is the likeliest of the set
run 0 "$CHIMERA" generate small --ids "1 2 3" -q -n 40 --temperature 1
cp out want
run 0 "$CHIMERA" generate small --ids "1 2 3" -q -n 40 --temperature 1 --allow 0-299
same out want "all ids allowed draw other ids"
printf '250\n17,3\n' >list
run 0 "$CHIMERA" generate small --ids "1 2 3" -q -n 40 --temperature 9 --allow list
if tr ' ' '\n' <out | grep -Evxq '250|17|3'; then no "others than 250, 17 and 3: $(cat out)"; else ok; fi
first=$("$CHIMERA" generate small --ids "1 2 3" -q -n 1)
run 0 "$CHIMERA" generate small --ids "1 2 3" -q -n 1 --allow "5,$first,290"
[ "$(cat out)" = "$first" ] && ok || no "of 5, $first and 290 the likeliest is not $first but $(cat out)"
run 0 "$CHIMERA" generate small --ids "1 2" -q -n 8 --repetition-penalty 100 --allow 200-210
[ "$(tr ' ' '\n' <out | sort -u | wc -l)" = 8 ] && ok || no "a penalty of 100 lets ids of a set come again: $(cat out)"
bad 2 'list2: no such file' "$CHIMERA" generate small --ids 1 --allow list2
bad 2 'token 300 is allowed, but' "$CHIMERA" generate small --ids 1 --allow 300

# ---- 16 streams, and not the 17th
set --
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17; do set -- "$@" --ids "$i"; done
run 0 "$CHIMERA" generate small "$@" -q -n 3 deployment.max_streams=16
cp out turns
run 0 "$CHIMERA" generate small "$@" -q -n 3 --batch 16 deployment.max_streams=16
same out turns "streams in other turns say something else"
bad 2 '17 at once, but deployment.max_streams = 16: stream 17 is refused' "$CHIMERA" generate small "$@" --batch 17 deployment.max_streams=16
bad 2 'streams = 0' "$CHIMERA" generate small --ids 1 --batch 0

# ---- the budget: refused before anything is taken, with its parts
cat >wide.ini <<'END'
include = small.ini
[model]
vocab_size = 200073
[linear.embed]
quantizer = f32
END
run 0 "$CHIMERA" init wide.ini run.memory_limit_mb=40 -o wide           # the embedding alone has 51 MB
bad 5 'weights 5[0-9] MB \(f32 5[0-9] MB, .*ternary2.*of experts.*states .*1 stream of .*work space .*memory_budget_mb = 40' \
    "$CHIMERA" generate wide --ids 1 deployment.memory_budget_mb=40
set --
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do set -- "$@" --ids "$i"; done
bad 5 'states 9[0-9][0-9] kB \(16 streams of 5[0-9] kB\), work space (1[89]|2[0-9]) MB' \
    "$CHIMERA" generate wide "$@" --batch 16 deployment.max_streams=16 deployment.memory_budget_mb=40
bad 5 'memory_budget_mb = 40' sh -c "ulimit -v 400000; exec '$CHIMERA' generate wide --ids 1 deployment.memory_budget_mb=40"
run 0 "$CHIMERA" generate wide --ids 1 -n 1 deployment.memory_budget_mb=200 run.memory_limit_mb=0

# ---- whole or absent: interrupted, killed by the size of a disk
"$CHIMERA" init wide.ini model.vocab_size=2000000 -o stopped 2>"$tmp/err" &
child=$!
i=0
until [ -e stopped/model.b158.tmp ] || [ $i -gt 500 ]; do sleep 0.02; i=$((i + 1)); done
kill -INT $child
got=0
wait $child || got=$?
[ $got -eq 130 ] && ok || no "interrupted: exit code $got, wanted 130"
[ ! -e stopped ] && ok || no "interrupted, and there is $(ls stopped)"
bad 5 'limited/model.b158.tmp: it would be larger than files may be: raise ulimit -f' \
    sh -c "ulimit -f 1000; exec '$CHIMERA' init wide.ini -o limited"
[ ! -e limited ] && ok || no "over ulimit -f, and there is $(ls limited)"
mkdir disk
if mount -t tmpfs -o size=4m,mode=755 none disk 2>/dev/null; then
    undo="umount $tmp/disk"
    bad 5 'disk/full/model.b158' "$CHIMERA" init wide.ini -o disk/full
    [ -z "$(ls disk)" ] && ok || no "a full disk keeps $(find disk)"
    umount disk
    undo=
fi
finish
