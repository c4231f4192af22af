#!/bin/sh
# A sweep whose runner and jobs are killed again and again ends like one that was left alone: the
# same table, the same weights and metrics of every job; no job is begun after its end.  Besides:
# what is refused, early ends, failures, signals, the lock, the journal, the script for Slurm.
#
#     KILLS=n STEPS=n     default 6 and 100; make soak-sweep takes 200 and 600
set -eu
if [ -n "${MEMORY_TMPDIR:-}" ]; then export TMPDIR="$MEMORY_TMPDIR"; fi
. "$srcdir/tests/e2e/lib.sh"
kills=${KILLS:-6}
pid=
stop() { if [ -n "$pid" ]; then kill -9 "$pid" 2>/dev/null || :; sleep 1; fi; }
undo=stop
make_corpus
cat >"$tmp/base.ini" <<INI
[model]
hidden_size = 16
num_hidden_layers = 2
vocab_size = 257
layer_pattern = GD
ffn_pattern = MLP
[layer.GD]
use = gated_deltanet
num_heads = 2
head_dim = 8
[layer.MLP]
use = swiglu
intermediate_size = 32
[linear]
quantizer = ternary
group_size = 64
extra_rmsnorm = yes
[linear.embed]
quantizer = f32
[data]
task = text
tokenizer = byte
[task]
train = corpus/train
heldout = corpus/heldout
[train]
batch_size = 2
seq_len = 16
steps = ${STEPS:-100}
warmup_steps = 2
lr = 1e-2
checkpoint_every = 25
keep = 2
log_every = 5
[run]
dir = sweep
INI
# ini NAME: a sweep of standard input over base.ini
ini() { { printf 'include = base.ini\n[sweep]\n'; cat; printf '[run]\ndir = %s\n' "$1"; } >"$tmp/$1.ini"; }
# sweep_run AXES LINE...: --dry-run of these, LINEs behind
sweep_run() {
    { printf 'include = base.ini\n'; printf '[sweep]\n%s\n' "$1"; shift; if [ $# -gt 0 ]; then printf '%s\n' "$@"; fi; } >"$tmp/some.ini"
    run 0 "$CHIMERA" sweep "$tmp/some.ini" --dry-run
}
rows() { grep -c . "$1"; }

# ---- what is planned
ini grid <<INI
layer.GD.num_heads = 1 | 2
train.lr = 1e-2 | 3e-3
run.seed = 1 | 2 | 3
pair = layer.GD.num_heads, train.lr
match = params
match_key = layer.MLP.intermediate_size
INI
run 0 "$CHIMERA" sweep "$tmp/grid.ini" --dry-run
says out '^6 jobs'
if [ -e "$tmp/grid" ]; then no "--dry-run made a folder"; else ok; fi
# parameters within 1 % of one another, and as inspect counts them
awk 'length($1) == 16 { if (!n++) p = $6; if ($6 < p * 0.98 || $6 > p * 1.02) exit 1 } END { exit n != 6 }' "$tmp/out" ||
    no "parameters are not matched: $(cat "$tmp/out")"
p=$(awk 'NR == 2 { print $6 }' "$tmp/out") w=$(awk 'NR == 2 { print $5 }' "$tmp/out")
run 0 "$CHIMERA" inspect "$tmp/base.ini" layer.GD.num_heads=1 layer.MLP.intermediate_size="$w"
says out "\\($p\\)"
# FLOPs: 2 a weight of a matrix and 4 a float of state, counted by hand for this model:
# embed 257 x 16, in each of 2 layers q, k, v, g, o 16 x 16, two gates of 2 heads, three of 16 x 32
sweep_run "layer.GD.num_heads = 1 | 2"
awk 'length($1) == 16 { print $(NF - 1) }' "$tmp/out" >"$tmp/flops"
want=$((2 * (257 * 16 + 2 * (5 * 16 * 16 + 2 * 2 * 16 + 3 * 16 * 32)) + 2176))
if [ "$(sed -n 2p "$tmp/flops")" -eq $want ]; then ok; else no "FLOPs: $(sed -n 2p "$tmp/flops"), by hand $want"; fi
# each turn of a loop costs the same again
sweep_run "loop.loops = 1 | 2 | 3" "[loop]" "use = parcae" "loop = 0-1"
awk 'length($1) == 16 { print $(NF - 1) }' "$tmp/out" >"$tmp/flops"
if awk '{ f[NR] = $1 } END { exit !(f[2] > f[1] && f[3] - f[2] == f[2] - f[1]) }' "$tmp/flops"; then ok
else no "FLOPs of 1, 2, 3 turns: $(cat "$tmp/flops")"; fi
# the other budgets
for budget in "flops layer.MLP.intermediate_size 0.01 2" "state layer.GD.head_dim 0.1 4"; do
    set -- $budget
    sweep_run "layer.GD.num_heads = 1 | 2
match = $1
match_key = $2
match_tolerance = $3"
    awk -v t="$3" -v c="$4" 'length($1) == 16 { x = c == 2 ? $(NF - 1) : $(NF - 3); if (!n++) a = x; if (x > a * (1 + 2 * t) || x < a * (1 - 2 * t)) exit 1 }
        END { exit n != 2 }' "$tmp/out" || no "match = $1: $(cat "$tmp/out")"
done
ini time <<INI
match = time
minutes = 0.05
run.seed = 1 | 2
INI
run 0 "$CHIMERA" sweep "$tmp/time.ini" --dry-run --time train.steps=20
says out 'all jobs, .*: 0\.0[0-9] hours'
run 0 "$CHIMERA" sweep "$tmp/time.ini" --slurm "$tmp/array.sh"
if [ "$(cat "$tmp"/time/*.ini | grep -c '^minutes = 0.05')" -eq 2 ]; then ok; else no "match = time sets no train.minutes"; fi
ini leave <<INI
leave_out = ternary ternary>int8 extra_rmsnorm GD>MLP2 train.log_every>7
INI
printf '[layer.MLP2]\nuse = swiglu\nintermediate_size = 32\n' >>"$tmp/leave.ini"
run 0 "$CHIMERA" sweep "$tmp/leave.ini" --dry-run
says out '^6 jobs'
says out 'GD by MLP2'

# ---- what is refused: every job's faults at once, with file and line, and no folder
ini bad <<INI
layer.GD.num_heads = 0 | 2
layer.GD.head_dmi = 8 | 16
INI
most_lines=9 bad 2 'bad\.ini:3: layer\.GD\.num_heads = 0: must be.*\(2 of 4 jobs\)' "$CHIMERA" sweep "$tmp/bad.ini"
says err 'bad\.ini:4: layer\.GD\.head_dmi = 8: unknown key: did you mean head_dim'
if [ -e "$tmp/bad" ]; then no "a folder of a sweep that is not valid"; else ok; fi
bad 2 'no section \[sweep\]' "$CHIMERA" sweep "$tmp/base.ini"
bad 2 'holds no planned sweep' "$CHIMERA" sweep "$tmp/corpus"
ini far <<INI
match = params
match_to = 10
match_key = layer.MLP.intermediate_size
INI
most_lines=3 bad 2 'comes nearest with' "$CHIMERA" sweep "$tmp/far.ini"
# ---- other verbs pass the section over
run 0 "$CHIMERA" config "$tmp/bad.ini" --no-origins
if grep -q sweep\] "$tmp/out"; then no "config prints [sweep]"; else ok; fi

# ---- left alone
run 0 "$CHIMERA" sweep "$tmp/grid.ini" --jobs 2
cp -r "$tmp/grid" "$tmp/whole"
if [ "$(rows "$tmp/whole/results.tsv")" -eq 7 ]; then ok; else no "results.tsv: $(cat "$tmp/whole/results.tsv")"; fi
id=$(awk 'NR == 2 { print $1 }' "$tmp/whole/results.tsv")
# a job is its configuration: the same again is the same run
run 0 "$CHIMERA" config "$tmp/whole/$id.ini" --no-origins
if cmp -s "$tmp/out" "$tmp/whole/$id.ini"; then ok; else no "$id.ini is not resolved"; fi
run 0 "$CHIMERA" train "$tmp/whole/$id.ini" run.dir="$tmp/again"
last=$(printf %010d "${STEPS:-100}")
if cmp -s "$tmp/again/ckpt/$last/model.safetensors" "$tmp/whole/$id/ckpt/$last/model.safetensors"; then ok
else no "the run of $id.ini is another one"; fi
# nothing is left to do
run 0 "$CHIMERA" sweep "$tmp/grid"
if [ "$(grep -c ' start' "$tmp/grid/journal")" -eq 6 ]; then ok; else no "a job that was done began again"; fi

# ---- killed.  Delays and targets come from a fixed sequence.
lines() { sed -e 's/,"wall_s":[^,}]*//; s/,"tok_s":[^,}]*//; s/,"rss_mb":[^,}]*//' "$1/metrics.jsonl"; }
equal() {
    cmp -s "$tmp/grid/results.tsv" "$tmp/whole/results.tsv" || no "another table: $(diff "$tmp/grid/results.tsv" "$tmp/whole/results.tsv")"
    for id in $(awk 'NR > 1 { print $1 }' "$tmp/whole/results.tsv"); do
        for f in model.safetensors optimizer.safetensors; do
            cmp -s "$tmp/grid/$id/ckpt/$last/$f" "$tmp/whole/$id/ckpt/$last/$f" && ok || no "$id: other bits in $f"
        done
        lines "$tmp/grid/$id" >"$tmp/a"
        lines "$tmp/whole/$id" >"$tmp/b"
        cmp -s "$tmp/a" "$tmp/b" && ok || no "$id: other metrics: $(diff "$tmp/a" "$tmp/b" | head -n 3)"
    done
    # one end each, and no start behind it
    awk -F'\t' '{ sub(/^[0-9a-f]+ /, "", $1) } $1 == "start" && over[$2] { bad = 1 } NF > 1 && $1 == "end" { if (over[$2]++) bad = 1; n++ }
        END { exit bad || n != 6 }' "$tmp/grid/journal" || no "a job began again or was lost: $(cat "$tmp/grid/journal")"
}
random() { seed=$(((seed * 1103515245 + 12345) % 2147483648)); value=$((seed / 65536 % $1)); }
seed=7 killed=0 runners=0 children=0 sweeps=0
rm -rf "$tmp/grid"
while [ $killed -lt "$kills" ]; do
    "$CHIMERA" sweep "$tmp/grid.ini" --jobs 2 >"$tmp/log" 2>&1 </dev/null &
    pid=$!
    while :; do
        random 40
        sleep 0.$((10 + value))
        kill -0 $pid 2>/dev/null || break
        random 2
        if [ $value -eq 0 ]; then
            kill -9 $pid 2>/dev/null && killed=$((killed + 1)) runners=$((runners + 1)) || :
            break
        fi
        random 2
        child=$(cut -d' ' -f$((value + 1)) "/proc/$pid/task/$pid/children" 2>/dev/null || :)
        if [ -n "$child" ] && kill -9 "$child" 2>/dev/null; then killed=$((killed + 1)) children=$((children + 1)); fi
        [ $killed -lt "$kills" ] || break
    done
    rc=0
    wait $pid 2>/dev/null || rc=$?
    pid=
    [ $rc -ne 0 ] || [ $killed -ge "$kills" ] || { equal; sweeps=$((sweeps + 1)); rm -rf "$tmp/grid"; }
    [ $rc -eq 0 ] || [ $rc -eq 137 ] || { no "exit code $rc: $(tail -n 3 "$tmp/log")"; break; }
done
limit=300 run 0 "$CHIMERA" sweep "$tmp/grid.ini" --jobs 2
equal
echo "$killed kills: $runners of runners, $children of jobs; $((sweeps + 1)) sweeps"
if [ $runners -gt 0 ] && [ $children -gt 0 ]; then ok; else no "not both were killed"; fi

# ---- the lock; SIGTERM stops the jobs, and the same command goes on
rm -rf "$tmp/grid" "$tmp/log"
: >"$tmp/log"
"$CHIMERA" sweep "$tmp/grid.ini" >>"$tmp/log" 2>&1 </dev/null &
pid=$!
i=0
while ! grep -q 'begins' "$tmp/log" && [ $i -lt 200 ]; do sleep 0.05; i=$((i + 1)); done
bad 1 "is being run by process $pid" "$CHIMERA" sweep "$tmp/grid.ini"
run 0 "$CHIMERA" sweep "$tmp/grid" --status
says out '6 jobs:.*1 running'
child=$(cut -d' ' -f1 "/proc/$pid/task/$pid/children")
kill -TERM $pid || no "the sweep ended: $(cat "$tmp/log")"
rc=0
wait $pid || rc=$?
pid=
if [ $rc -eq 143 ]; then ok; else no "SIGTERM: exit code $rc"; fi
if [ -n "$child" ] && kill -0 "$child" 2>/dev/null; then no "SIGTERM: a job goes on"; else ok; fi
run 0 "$CHIMERA" sweep "$tmp/grid" --jobs 3
equal

# ---- when the runner dies, its jobs save and stop; each had cores of its own
ini long <<INI
run.seed = 1 | 2
INI
: >"$tmp/log"
"$CHIMERA" sweep "$tmp/long.ini" train.steps=1000000 --jobs 2 >>"$tmp/log" 2>&1 </dev/null &
pid=$!
i=0
while [ "$(cat "$tmp"/long/*/metrics.jsonl 2>/dev/null | grep -c .)" -lt 2 ] && [ $i -lt 200 ]; do sleep 0.1; i=$((i + 1)); done
two=$(cat "/proc/$pid/task/$pid/children")
for child in $two; do grep Cpus_allowed_list "/proc/$child/status"; done >"$tmp/cores"
if [ "$(sort -u "$tmp/cores" | grep -c .)" -eq 2 ] || [ "$(nproc)" -lt 2 ]; then ok; else no "jobs share cores: $(cat "$tmp/cores")"; fi
kill -9 $pid
wait $pid 2>/dev/null || :
pid=
i=0
for child in $two; do
    while kill -0 "$child" 2>/dev/null && [ $i -lt 100 ]; do sleep 0.1; i=$((i + 1)); done
    if kill -0 "$child" 2>/dev/null; then no "a job outlives its runner"; kill -9 "$child"; else ok; fi
done
if [ "$(cat "$tmp"/long/*/status.json | grep -c '"stopped"')" -eq 2 ]; then ok; else no "$(cat "$tmp"/long/*/status.json)"; fi
run 0 "$CHIMERA" sweep "$tmp/long" --status
says out '^[0-9]+ jobs:.* 2 stopped$'

# ---- the journal: a torn line does not count, a changed one is refused, a lost one costs no work
printf '0123456789abcdef end' >>"$tmp/grid/journal"
run 0 "$CHIMERA" sweep "$tmp/grid"
equal
sed -i '3s/job/jab/' "$tmp/grid/journal"
bad 3 'journal:3: this line was changed' "$CHIMERA" sweep "$tmp/grid.ini"
rm "$tmp/grid/journal"
run 0 "$CHIMERA" sweep "$tmp/grid.ini"
if grep -q ' start' "$tmp/grid/journal"; then no "work was done again without the journal"; else ok; fi
equal

# ---- failures: keep-going, --retry, fail-fast
ini fail <<INI
arm.lost = task.train=nowhere
arm.good =
run.seed = 1 | 2
INI
most_lines=12 bad 1 '2 jobs failed' "$CHIMERA" sweep "$tmp/fail.ini" train.steps=60
says out '2 done 2 failed'
says out 'exit code [23]: .*nowhere'
bad 1 '2 jobs failed' "$CHIMERA" sweep "$tmp/fail"
if [ "$(grep -c ' start' "$tmp/fail/journal")" -eq 4 ]; then ok; else no "failed jobs are tried again unasked"; fi
most_lines=12 bad 1 '2 jobs failed' "$CHIMERA" sweep "$tmp/fail" --retry
if [ "$(grep -c ' start' "$tmp/fail/journal")" -eq 6 ]; then ok; else no "--retry does not try again"; fi
rm -rf "$tmp/fail"
most_lines=12 bad 1 '1 job failed' "$CHIMERA" sweep "$tmp/fail.ini" --fail-fast train.steps=60
if [ "$(grep -c ' start' "$tmp/fail/journal")" -eq 1 ]; then ok; else no "--fail-fast goes on"; fi

# ---- an early end counts by what is in the lines, not by when it was seen
ini early <<INI
stop = loss < 4.5
stop_after = 20
metric = loss
train.lr = 1e-2 | 1e-6
INI
run 0 "$CHIMERA" sweep "$tmp/early.ini"
says out '1 done 1 early'
cp "$tmp/early/results.tsv" "$tmp/early.tsv"
rm "$tmp/early/journal"
run 0 "$CHIMERA" sweep "$tmp/early.ini" --jobs 2
if cmp -s "$tmp/early/results.tsv" "$tmp/early.tsv"; then ok; else no "early ends differ"; fi
awk -F'\t' '$6 == "early" && $7 >= 20 && $7 < '"${STEPS:-100}"' && $8 < 4.5 { good = 1 } END { exit !good }' "$tmp/early.tsv" ||
    no "early: $(cat "$tmp/early.tsv")"

# ---- the script for Slurm: its tasks from one journal, two at a time
rm -rf "$tmp/grid"
run 0 "$CHIMERA" sweep "$tmp/grid.ini" --slurm "$tmp/array.sh" --jobs 2
if grep -q '^#SBATCH --array=0-5%2$' "$tmp/array.sh"; then ok; else no "the array: $(cat "$tmp/array.sh")"; fi
for task in 0 2 4; do
    SLURM_ARRAY_TASK_ID=$task sh "$tmp/array.sh" >"$tmp/one" 2>&1 &
    pid=$!
    SLURM_ARRAY_TASK_ID=$((task + 1)) sh "$tmp/array.sh" >"$tmp/two" 2>&1 || no "task: $(cat "$tmp/two")"
    wait $pid || no "task: $(cat "$tmp/one")"
    pid=
done
run 0 "$CHIMERA" sweep "$tmp/grid"
if [ "$(grep -c ' start' "$tmp/grid/journal")" -eq 6 ]; then ok; else no "not each task began its job once"; fi
equal
bad 2 'has no such job' "$CHIMERA" sweep "$tmp/grid" --job 0000000000000000
undo=
finish
