#!/bin/sh
# chimera report: run folders written here whose statistics are in print (Student's sleep data, 1908: ten pairs,
# t = -4.0621 paired and -1.8608 by Welch), damaged ones, refusals, every output, and two real runs.
set -eu
. "$srcdir/tests/e2e/lib.sh"
make_corpus
"$CHIMERA" config "$srcdir/conf/tiny.ini" task.train="$corpus/train" task.heldout="$corpus/heldout" >"$tmp/base.ini"
# fake DIR SEED LR STATE VALUE [HASH [LAST]]: a run whose heldout_bpb falls to VALUE at step LAST
fake() {
    mkdir -p "$tmp/$1"
    sed "s|^dir .*|dir = $tmp/$1|; s|^lr  *=.*|lr = $3|" "$tmp/base.ini" |
        awk -v seed="$2" '/^\[/ { run = $0 == "[run]" } run && /^seed/ { $0 = "seed = " seed } { print }' >"$tmp/$1/config.ini"
    echo "{\"state\":\"$4\",\"reason\":\"made here\",\"pid\":1}" >"$tmp/$1/status.json"
    echo "{\"data_hash\":\"${6:-00aa}\"}" >"$tmp/$1/env.json"
    printf '{"step":1,"loss":3,"heldout_bpb":9,"accuracy.a":0.1}\n{"step":5,"heldout_bpb":%s,"accuracy":0.5}\n' \
        "${8:-8.5}" >"$tmp/$1/metrics.jsonl"
    printf '{"step":%s,"heldout_bpb":%s,"accuracy":0.75,"accuracy.a":0.5,"accuracy.b":1}\n' "${7:-9}" "$5" >>"$tmp/$1/metrics.jsonl"
}
# column NAME LINE: of the CSV file, in which only the first two fields are quoted and may hold commas
column() {
    awk -v name="$1" -v line="$2" '{ gsub(/"[^"]*"/, "q") } NR == 1 { n = split($0, h, ","); for (i = 1; i <= n; i++) at[h[i]] = i }
        NR == line + 1 { split($0, v, ","); print v[at[name]] }' "$tmp/r.csv"
}
is() {
    got=$(column "$1" "$2")
    if awk -v a="$got" -v b="$3" 'BEGIN { d = a - b; if (d < 0) d = -d; exit !(a != "" && d <= 1e-6 * (1 + (b < 0 ? -b : b))) }'
    then ok; else no "$1 of arm $2: $got, want $3"; fi
}
word() { if [ "$(column "$1" "$2")" = "$3" ]; then ok; else no "$1 of arm $2: $(column "$1" "$2"), want $3"; fi; }
report() { run 0 "$CHIMERA" report "$@" --csv "$tmp/r.csv"; }

# ---- ten pairs, the baseline first by the order of folders
i=0
for x in 0.7 -1.6 -0.2 -1.2 -0.1 3.4 3.7 0.8 0.0 2.0; do i=$((i + 1)); fake "sleep/b$i" $i 0.02 done $x; done
i=0
for x in 1.9 0.8 1.1 0.1 -0.1 4.4 5.5 1.6 4.6 3.4; do i=$((i + 1)); fake "sleep/a$i" $i 0.01 done $x; done
report "$tmp/sleep"
is mean 1 2.33; is std 1 2.0022487; is mean 2 0.75; is std 2 1.7890097; is n 2 10
is difference 2 -1.58; is difference_low 2 -2.4598858; is difference_high 2 -0.7001142
is t 2 -4.0621277; is df 2 9; is p 2 0.00283289; is p_holm 2 0.00283289; is p_sign_flip 2 0.00390625
is effect 2 -1.2845580; word test 2 'paired t'; word verdict 2 better; word verdict 1 baseline
says out '^B +lr=0.02 .* better by 1.5800'
[ "$(column state_bytes 1)" -gt 0 ] && ok || no 'the state has no size'
report "$tmp/sleep" --higher; word verdict 2 worse
report "$tmp/sleep" --baseline lr=0.02; is difference 2 1.58; word verdict 2 worse
report "$tmp/sleep" --baseline "$tmp/sleep/b3"; is difference 2 1.58
report "$tmp/sleep" --metric accuracy; is mean 1 0.75; word verdict 2 'cannot tell'; says out 'seeds make no difference'
says out '^A .* 0.500 +1.000$'
report "$tmp/sleep" --at 5; is mean 2 8.5
report "$tmp/sleep" --at last:5; is mean 2 4.625; says out 'over the last 5 steps'
report "$tmp/sleep" --at last:9; is mean 2 6.0833333
report "$tmp/sleep" --at last:1; is mean 2 0.75
bad 2 'last:STEPS' "$CHIMERA" report "$tmp/sleep" --at last:0
bad 2 'last:STEPS' "$CHIMERA" report "$tmp/sleep" --at last:5x
bad 2 'more than one arm|no arm' "$CHIMERA" report "$tmp/sleep" --baseline lr=7
bad 2 'did you mean heldout_bpb' "$CHIMERA" report "$tmp/sleep" --metric heldout_bbp
bad 2 'want last, last:STEPS, best' "$CHIMERA" report "$tmp/sleep" --at soon
bad 2 'exclude' "$CHIMERA" report "$tmp/sleep" --higher --lower
bad 2 'no overrides' "$CHIMERA" report "$tmp/sleep" train.lr=3

# ---- other seeds: Welch; twelve arms of noise: none may come out as different by Holm, best steps
i=10
for x in 0.7 -1.6 -0.2 -1.2 -0.1 3.4 3.7 0.8 0.0 2.0; do i=$((i + 1)); fake "welch/b$i" $i 0.02 done $x; done
cp -r "$tmp"/sleep/a* "$tmp/welch/"
report "$tmp/welch"
is t 2 -1.8608135; is df 2 17.776474; is p 2 0.07939414; is effect 2 -0.8321811; word test 2 Welch
word verdict 2 'cannot tell'; says out 'shares no seeds'
for lr in 1 2 3 4; do for seed in 1 2 3; do
    fake "four/$lr-$seed" $seed 0.0$lr done "$(awk -v a=$lr -v s=$seed 'BEGIN { print 2 + s + (a > 1) * (0.1 * a + 0.01 * (s == a % 3 + 1)) }')" 00aa 9 1.5
done; done
report "$tmp/four"
awk -v p="$(column p 2)" -v q="$(column p 3)" -v r="$(column p 4)" -v a="$(column p_holm 2)" -v b="$(column p_holm 4)" \
    'BEGIN { d = 3 * r - b; e = p - a; exit !(r < q && q < p && d * d < 1e-12 && e * e < 1e-12) }' && ok || no 'Holm over three arms'
says out 'has 3 seeds; use 5'
report "$tmp/four" --at best; is mean 1 1.5; is mean 4 1.5

# ---- damage: nothing is dropped in silence
cp -r "$tmp/sleep" "$tmp/hurt"
cd "$tmp/hurt"
printf '{"step":10,"heldout_bpb":77' >>a1/metrics.jsonl                            # torn
printf '{"step":5,"heldout_bpb":8}\n{"step":9,"heldout_bpb":0.8}\n' >>a2/metrics.jsonl   # went on from an older step
sed -i '$s/"heldout_bpb":[^,]*/"heldout_bpb":null/' a3/metrics.jsonl
sed -i '$s/"heldout_bpb":[^,]*/"heldout_bpb":NaN/' a4/metrics.jsonl
echo '{"state":"failed","reason":"loss is not finite"}' >a5/status.json
rm a6/status.json
rm a7/metrics.jsonl
rm a8/config.ini
echo 'no section' >a9/config.ini
printf 'rubbish\n{"step":-3}\n[1]\n' >>a10/metrics.jsonl
cp -r b1 b1.old-1
cp -r b2 b99
cd "$OLDPWD"
report "$tmp/hurt"
is n 1 3; is n 2 10; is mean 1 2.0333333
for w in 'a3 .*not finite at step 9' 'a4 .*not finite at step 9' 'a5 .*failed, loss is not finite' 'a6 .*unknown' \
    'a7 .*no metrics.jsonl' 'a8 .*no config.ini' 'a9 .*config.ini is damaged' 'a10: 3 lines' 'b1.old-1 .*moved aside' \
    'b99 .*seed 2 of this arm is counted already' '3 seeds are common'; do says out "$w"; done
fake none/x 1 0.01 running 3
bad 3 'none of 1 runs counts' "$CHIMERA" report "$tmp/none"
says out 'none/x .*not done: running'
run 0 "$CHIMERA" report "$tmp/none" --at 5
mkdir "$tmp/empty"
bad 2 'holds no run' "$CHIMERA" report "$tmp/empty"
bad 2 'no such folder' "$CHIMERA" report "$tmp/sleep" "$tmp/nowhere"
bad 2 'is a file' "$CHIMERA" report "$tmp/base.ini"
bad 2 'RUNS|want' "$CHIMERA" report
mkdir "$tmp/blank"; : >"$tmp/blank/metrics.jsonl"
bad 3 'no run has any' "$CHIMERA" report "$tmp/blank"

# ---- refusals
cp -r "$tmp/sleep" "$tmp/data"; echo '{"data_hash":"00bb"}' >"$tmp/data/b4/env.json"
bad 1 'different data .*any-data' "$CHIMERA" report "$tmp/data"
report "$tmp/data" --any-data; is t 2 -4.0621277
# Arms without a common seed, whose data follow the seed: the message says what to do
for i in 1 2; do fake "apart/a$i" $i 0.01 done $i "aa$i"; fake "apart/b$i" 1$i 0.02 done $i "bb$i"; done
bad 1 'share no seed.*same run.seed.*--any-data' "$CHIMERA" report "$tmp/apart"
run 0 "$CHIMERA" report "$tmp/apart" --any-data
cp -r "$tmp/sleep" "$tmp/steps"; echo '{"step":12,"heldout_bpb":-1.2}' >>"$tmp/steps/b4/metrics.jsonl"
bad 1 'step 12.*any-steps|step 9.*any-steps' "$CHIMERA" report "$tmp/steps"
report "$tmp/steps" --any-steps; is t 2 -4.0621277
report "$tmp/steps" --at 9; is t 2 -4.0621277
bad 1 'cannot create' "$CHIMERA" report "$tmp/sleep" --csv /dev/full/x

# ---- outputs
# What is behind a descriptor is written to through it, so that nothing falls on what was written before
"$CHIMERA" report "$tmp/sleep" --markdown "$tmp/r.md" >"$tmp/plain" 2>"$tmp/said"
for to in /dev/stdout /dev/fd/1 /dev/stderr /dev/null; do
    "$CHIMERA" report "$tmp/sleep" --markdown $to >"$tmp/out" 2>"$tmp/err"
    sed "s,$tmp/r.md,$to," "$tmp/said" >"$tmp/want"
    cat "$tmp/plain" >>"$tmp/want"
    [ $to = /dev/null ] || cat "$tmp/r.md" >>"$tmp/want"
    cat "$tmp/out" "$tmp/err" | sort | cmp - "$(sort "$tmp/want" >"$tmp/sorted"; echo "$tmp/sorted")" && ok || no "--markdown $to"
done
[ -c /dev/null ] && ok || no "/dev/null is no device any more"
mkdir "$tmp/bin"
run 0 env PATH="$tmp/bin" "$CHIMERA" report "$tmp/sleep" --metric accuracy --html "$tmp/plain.html" --markdown "$tmp/r.md"
says err 'gnuplot is not in PATH'
for w in '^\| +\| arm' '^# accuracy at' '^\|---\|---\|---:' '## Slices' '\| 1.000 \|'; do
    grep -Eq "$w" "$tmp/r.md" && ok || no "Markdown lacks $w"
done
grep -q 'gnuplot was not found' "$tmp/plain.html" && grep -q '</html>' "$tmp/plain.html" && ok || no 'no page without gnuplot'
grep -q 'style="--v:0.500">0.500<' "$tmp/plain.html" && ok || no 'no heat map'
# Eighteen arms: every letter has a colour and frame of its own, and every curve a colour and dashes, and a letter at its end
i=0
while [ $i -lt 18 ]; do
    i=$((i + 1))
    for seed in 1 2; do fake "many/$i-$seed" $seed 0.0$((10 + i)) done $((1000 + 7 * i + seed))e-3; done
done
run 0 "$CHIMERA" report "$tmp/many" --html "$tmp/many.html"
says err 'many.html is written$'
bad 1 'cannot create .*/nodir/r.html: No such' "$CHIMERA" report "$tmp/many" --html "$tmp/nodir/r.html"
chips=$(grep -o 'class="chip d[0-2]" style="--c:#[0-9a-f]*"' "$tmp/many.html" | sort -u | wc -l)
[ "$chips" = 18 ] && ok || no "18 arms have $chips kinds of letters"
if command -v gnuplot >"$tmp/which"; then
    dashed=$(grep -c "stroke-dasharray='14.0,6.0'" "$tmp/many.html") dotted=$(grep -c "stroke-dasharray='3.0,4.0'" "$tmp/many.html")
    [ "$dashed $dotted" = '8 2' ] && ok || no "$dashed curves are dashed and $dotted dotted, want 8 and 2"
    letters=$(grep -A 1 'font-size="11.00"' "$tmp/many.html" | grep -c '>[A-R]</tspan>')
    [ "$letters" = 18 ] && ok || no "18 curves end with $letters letters"
    run 0 "$CHIMERA" report "$tmp/sleep" --html "$tmp/r.html"
    [ "$(grep -c '<svg' "$tmp/r.html")" = 2 ] && ok || no "$(grep -c '<svg' "$tmp/r.html") plots, want 2: one state, so no plot of it"
    grep -Eq '(src|href)="?(http|file|/)|@import|<script' "$tmp/r.html" && no 'the page needs other files' || ok
    run 0 "$CHIMERA" report "$tmp/sleep" --html "$tmp/again.html"
    cmp -s "$tmp/r.html" "$tmp/again.html" && ok || no 'the same runs give another page'
else echo "gnuplot is not here: plots are not tested"; fi

# ---- two real runs
for seed in 1 2; do
    run 0 "$CHIMERA" train "$srcdir/conf/tiny.ini" task.train="$corpus/train" task.heldout="$corpus/heldout" train.steps=3 \
        run.dir="$tmp/real/$seed" run.seed=$seed run.threads=1
done
report "$tmp/real/1" "$tmp/real/2" "$tmp/real"
is runs 1 2; is n 1 2; word verdict 1 baseline
want=$(grep -h heldout_bpb "$tmp"/real/*/metrics.jsonl | sed 's/.*"heldout_bpb":\([0-9.]*\).*/\1/' | awk '{ s += $1 } END { printf "%.9g", s / NR }')
is mean 1 "$want"

# ---- runs of a sweep: arms are called what it calls them, unless two are called the same
cat >"$tmp/sweep.ini" <<END
include = $srcdir/conf/tiny.ini
[train]
steps = 1
[sweep]
arm.plain = train.lr=4e-3
arm.calm  = train.lr=1e-3 & train.grad_clip=0.5 & train.warmup_steps=1
train.batch_size = 1 | 2
run.seed  = 1 | 2
[run]
dir = $tmp/swept
END
run 0 "$CHIMERA" sweep "$tmp/sweep.ini" task.train="$corpus/train" task.heldout="$corpus/heldout"
report "$tmp/swept" --baseline 'plain, batch_size=2'
says out '^A +plain, batch_size=2 +2 '; says out '^[BCD] +calm, batch_size=1 +2 '
# in the order of the plan, which is not that of the folders
report "$tmp/swept"
planned=$("$CHIMERA" sweep "$tmp/swept" --status | awk '$5 == "done" && $4 == 1 { print $2 }' | tr '\n' ' ')
shown=$(sed -n 's/^[A-D]  *\([a-z]*\), batch_size=.*/\1/p' "$tmp/out" | head -n 4 | tr '\n' ' ')
[ "$shown" = "$planned" ] && [ "$shown" = "plain plain calm calm " ] && ok || no "arms '$shown', planned '$planned'"
run 0 "$CHIMERA" sweep "$tmp/sweep.ini" task.train="$corpus/train" task.heldout="$corpus/heldout" run.dir="$tmp/longer" \
    train.steps=2
report "$tmp/swept" "$tmp/longer" --any-steps; says out '^[A-H] +batch_size=1, grad_clip'
# arms that a number tells apart are one family: points of one colour in the plot against state, and a line between them
cat >"$tmp/sizes.ini" <<END
include = $srcdir/conf/tiny.ini
[train]
steps = 1
[sweep]
arm.GD-16 = layer.GD.head_dim=16
arm.GD-8  = layer.GD.head_dim=8
arm.other = layer.GD.head_dim=24
[run]
dir = $tmp/sizes
END
run 0 "$CHIMERA" sweep "$tmp/sizes.ini" task.train="$corpus/train" task.heldout="$corpus/heldout"
run 0 "$CHIMERA" report "$tmp/sizes" --html "$tmp/sizes.html"
if command -v gnuplot >"$tmp/which"; then
    sed -n '/class="broad"/,/<\/figure>/p' "$tmp/sizes.html" >"$tmp/broad"
    first="rgb( 59, 130, 196)"
    points=$(grep -c "<use .*color='$first'" "$tmp/broad") lines=$(grep -c "stroke='$first' *d='M[0-9.]*,[0-9.]* L" "$tmp/broad")
    [ "$points $lines" = '2 1' ] && ok || no "$points points of one colour and $lines lines, want 2 and 1"
fi
echo 'torn by hand' >"$tmp/swept/journal"
report "$tmp/swept"; says out 'batch_size=2'
finish
