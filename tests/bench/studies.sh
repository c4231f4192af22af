#!/bin/sh
# `make studies`: the sweeps conf/ablations/study-*.ini, of which doc/results/ tells.  Jobs of all studies share one
# queue, the longest first, each on one core.  What is done is not done again: after a kill or SIGTERM, or when the
# time is up, the same command goes on, jobs from their checkpoints.  Weights of finished jobs are removed.
set -eu
export LC_ALL=C
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
chimera=${CHIMERA:-$root/build/chimera}
runs=${RUNS:-$root/runs/studies}
jobs=$(nproc) limit=0 dry= keep= tables=
all="overwrite mqar parity s3-swaps s5-swaps s3 parts parts-recall loop-params loop-flops moe ternary formats"

usage() {
    cat <<END
usage: studies.sh [--dry-run] [--jobs N] [--limit SECONDS] [--keep-weights] [STUDY...]
       studies.sh --tables FOLDER [STUDY...]

STUDY: $all (without one: all)

  --dry-run       print the jobs with their FLOPs and the hours that they take, and stop
  --jobs N        processes at once, one core each; without it as many as there are cores
  --limit SECONDS save and stop after that time (exit code 143); the same command goes on
  --keep-weights  leave the checkpoints of finished jobs
  --tables FOLDER compare what is there: NAME.md, NAME.csv and NAME.svg of each study (doc/results/studies)

CHIMERA, RUNS (a folder) and CORPUS (of ./quickstart corpus) in the environment say where things are.
END
}
die() { echo "studies.sh: $*" >&2; exit 2; }
number() { case $2 in ''|*[!0-9]*) die "$1 '$2': want a number" ;; esac; }

studies=
while [ $# -gt 0 ]; do
    case $1 in
        -h|--help) usage; exit 0 ;;
        --dry-run) dry=yes ;;
        --keep-weights) keep=yes ;;
        --tables)
            [ $# -gt 1 ] || die "--tables: want a folder"
            tables=$2
            shift ;;
        --jobs|--limit)
            [ $# -gt 1 ] || die "$1: want a number"
            number "$1" "$2"
            if [ "$1" = --jobs ]; then jobs=$2; else limit=$2; fi
            shift ;;
        *) case " $all " in
               *" $1 "*) studies="$studies $1" ;;
               *) die "no study '$1'; there are: $all" ;;
           esac ;;
    esac
    shift
done
studies=${studies:-$all}
[ "$jobs" -gt 0 ] || die "--jobs 0: want 1 or more"

# ---- tables ------------------------------------------------------------------------------------
# compare NAME PLOT RUNS... OPTIONS: PLOT 0 learning curves, 1 values, 2 against the bytes of state
compare() {
    name=$1 plot=$2
    shift 2
    echo "+ chimera report $*"
    "$chimera" report "$@" --csv "$tables/$name.csv" --markdown "$tables/$name.md" --html "$tables/page.html" >"$tables/out"
    awk -v id="id=\"p$plot-" '/<svg/ { sub(/.*<svg/, "<svg"); text = ""; on = 1 } on { text = text $0 "\n" }
        on && /<\/svg>/ { sub(/<\/svg>.*/, "</svg>", text); if (index(text, id)) printf "%s\n", text; on = 0 }' \
        "$tables/page.html" >"$tables/$name.svg"
    [ -s "$tables/$name.svg" ] || rm -f "$tables/$name.svg"
    rm -f "$tables/page.html" "$tables/out"
}
# best ARM: the run folders of its learning rate with the lowest mean
best() {
    "$chimera" sweep "$runs/ternary" --status | awk -v arm="$1" -v dir="$runs/ternary" '
        $2 == arm && $5 == "done" { s[$3] += $8; n[$3]++; run[$3] = run[$3] " " dir "/" $1 }
        END { for (lr in s) if (least == "" || s[lr] / n[lr] < s[least] / n[least]) least = lr; print run[least] }'
}
table() {
    case $1 in
        overwrite|mqar)  compare "$1" 2 "$runs/$1" --baseline GD-16 ;;
        parity|s3*|s5*)  compare "$1" 1 "$runs/$1" --baseline deltanet-pos ;;
        parts*)          compare "$1" 1 "$runs/$1" --baseline all ;;
        loop-*)          compare "$1" 1 "$runs/$1" --baseline turns-1 ;;
        moe)
            compare moe 1 "$runs/moe" --baseline bias_update=0
            compare moe-balance 0 "$runs/moe" --baseline bias_update=0 --metric moe_expert_load_balance --at last:100 --lower
            if grep -qs moe_global_load_balance "$runs"/moe/*/metrics.jsonl; then
                compare moe-global 1 "$runs/moe" --baseline bias_update=0 --metric moe_global_load_balance --lower
            fi ;;
        ternary)
            compare ternary 1 "$runs/ternary" --baseline 'f32-128, lr=2e-3'
            for size in 32 64 128; do
                f32=$(best "f32-$size") ternary=$(best "ternary-$size")
                [ -n "$f32" ] && [ -n "$ternary" ] || { echo "ternary: no runs of size $size"; continue; }
                # shellcheck disable=SC2086
                compare "ternary-$size" 1 $f32 $ternary --baseline linear.quantizer=f32
            done ;;
        formats)                                # its first arm is ternary
            for size in 64 128; do
                list=$("$chimera" sweep "$runs/formats" --status | awk -v size=$size -v dir="$runs/formats" '
                    $2 == size && $8 == "done" { print dir "/" $1 }')
                [ -n "$list" ] || { echo "formats: no runs of size $size"; continue; }
                # shellcheck disable=SC2086
                compare "formats-$size" 1 $list --baseline "$(printf '%s\n' "$list" | head -n 1)"
            done ;;
    esac
}
if [ -n "$tables" ]; then
    mkdir -p "$tables"
    for s in $studies; do
        if [ -e "$runs/$s/journal" ]; then table "$s"; else echo "$s: no runs in $runs/$s"; fi
    done
    exit 0
fi

# ---- one study: its configuration, with paths of this machine -------------------------------
is_text() { case $1 in parts|loop-*|moe|ternary|formats) true ;; *) false ;; esac; }
sweep() {
    name=$1
    shift
    if is_text "$name" && [ -n "${CORPUS:-}" ]; then
        set -- "$@" task.train="$CORPUS/train" task.heldout="$CORPUS/heldout"
    fi
    "$chimera" sweep "$root/conf/ablations/study-$name.ini" run.dir="$runs/$name" "$@"
}
for s in $studies; do
    if is_text "$s" && [ ! -d "${CORPUS:-$root/.quickstart/corpus}/train" ]; then
        echo "studies.sh: no corpus for $s: run ./quickstart corpus, or set CORPUS" >&2
        exit 77
    fi
done

if [ -n "$dry" ]; then
    for s in $studies; do
        echo "== $s: $(sed -n '1s/^; Claim: //p' "$root/conf/ablations/study-$s.ini") ..."
        sweep "$s" --dry-run --time
    done | awk '{ print; fflush() } /^all jobs/ { h += $(NF - 1) } / FLOPs of training, in / { n += $1; f += $3 }
        END { printf "all studies: %d jobs, %.3g FLOPs of training, %.2f core hours without evaluations\n", n, f, h }'
    exit 0
fi

# ---- the queue: FLOPs, study, id of every job that is not done --------------------------------
mkdir -p "$runs"
queue=$runs/queue
: >"$queue.all"
for s in $studies; do
    mkdir -p "$runs/$s"
    sweep "$s" --slurm "$runs/$s/array.sh" >"$runs/$s/plan"     # plans it; Slurm may take it from there
    awk -v s="$s" 'length($1) == 16 && $1 !~ /[^0-9a-f]/ { print $NF, s, $1 }' "$runs/$s/plan" |
        while read -r flops s id; do
            grep -q '"state": *"done"' "$runs/$s/$id/status.json" 2>/dev/null || echo "$flops $s $id"
        done >>"$queue.all"
done
sort -k1,1gr -k2 "$queue.all" >"$queue"
rm -f "$queue.all"
echo "studies.sh: $(wc -l <"$queue") jobs to do, $jobs at once, in $runs"

# The cores that we may use, one word each
cores=$(taskset -pc $$ | sed 's/.*: //' | tr ',' '\n' |
    awk -F- '{ for (i = $1; i <= (NF > 1 ? $2 : $1); i++) printf "%d ", i }')
cat >"$runs/job.sh" <<END
# job.sh FLOPS STUDY ID: one job on the core of this slot
set -- "\$2" "\$3" $cores
study=\$1 id=\$2
shift 2
shift \$((SLOT % \$#))
taskset -c "\$1" "$chimera" sweep "$runs/\$study" --job "\$id" || exit 1
[ -n "$keep" ] || ! grep -q '"state": *"done"' "$runs/\$study/\$id/status.json" || rm -rf "$runs/\$study/\$id/ckpt"
END

stopped=
setsid xargs -r -P "$jobs" -L 1 --process-slot-var=SLOT sh "$runs/job.sh" <"$queue" &
group=$!
watch=
if [ "$limit" -gt 0 ]; then (sleep "$limit"; kill -TERM $$) >/dev/null 2>&1 </dev/null & watch=$!; fi
trap 'stopped=yes; kill -s TERM -- "-$group" 2>/dev/null || :' TERM INT HUP
rc=0
wait "$group" || rc=$?
while kill -s 0 -- "-$group" 2>/dev/null; do sleep 0.2; done
if [ -n "$watch" ]; then kill "$watch" 2>/dev/null || :; fi
if [ -n "$stopped" ]; then
    echo "studies.sh: stopped; the same command goes on"
    exit 143
fi
for s in $studies; do
    echo "== $s"
    sweep "$s" --status | tail -n 1
    "$chimera" sweep "$runs/$s" >/dev/null || rc=1      # nothing is left to run: this writes results.tsv
done
exit "$((rc != 0))"
