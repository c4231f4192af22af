#!/bin/sh
# make check-slurm: a sweep as an array of jobs of a real Slurm of one node.  munged, slurmctld and
# slurmd run as this user's, from a folder that goes away; needs root, slurm-wlm and munge.
set -eu
. "$srcdir/tests/e2e/lib.sh"
for program in slurmctld slurmd sbatch squeue munged; do
    if ! command -v $program >/dev/null; then
        echo "skip: there is no $program (Debian packages slurm-wlm and munge)"
        exit 77
    fi
done
if [ "$(id -u)" -ne 0 ]; then
    echo "skip: slurmd wants root"
    exit 77
fi
pids=
stop() {
    scancel --state=PENDING,RUNNING -u root 2>/dev/null || :
    for p in $pids; do kill "$p" 2>/dev/null || :; done
    sleep 1
    for p in $pids; do kill -9 "$p" 2>/dev/null || :; done
}
undo=stop
chmod 755 "$tmp"
mkdir -p "$tmp/munge" "$tmp/state" "$tmp/spool"
chmod 700 "$tmp/munge"
dd if=/dev/urandom of="$tmp/munge/key" bs=1024 count=1 2>/dev/null
chmod 600 "$tmp/munge/key"
node=$(hostname -s)
cat >"$tmp/slurm.conf" <<CONF
ClusterName=chimera
SlurmctldHost=$node(127.0.0.1)
SlurmctldPort=26817
SlurmdPort=26818
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$tmp/munge/socket
CredType=cred/munge
StateSaveLocation=$tmp/state
SlurmdSpoolDir=$tmp/spool
SlurmctldPidFile=$tmp/slurmctld.pid
SlurmdPidFile=$tmp/slurmd.pid
SlurmctldLogFile=$tmp/slurmctld.log
SlurmdLogFile=$tmp/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1
MailProg=/bin/true
ReturnToService=2
KillWait=10
NodeName=$node NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=all Nodes=$node Default=YES MaxTime=INFINITE State=UP
CONF
export SLURM_CONF="$tmp/slurm.conf"
munged --foreground --force --key-file="$tmp/munge/key" --socket="$tmp/munge/socket" --pid-file="$tmp/munge/pid" \
    --log-file="$tmp/munge/log" --seed-file="$tmp/munge/seed" >"$tmp/munged" 2>&1 &
pids=$!
i=0
while [ ! -S "$tmp/munge/socket" ] && [ $i -lt 50 ]; do sleep 0.1; i=$((i + 1)); done
slurmctld -D -f "$SLURM_CONF" >"$tmp/ctld" 2>&1 &
pids="$pids $!"
slurmd -D -f "$SLURM_CONF" -N "$node" >"$tmp/d" 2>&1 &
pids="$pids $!"
i=0
while ! sinfo -h -o %t 2>/dev/null | grep -q idle && [ $i -lt 150 ]; do sleep 0.2; i=$((i + 1)); done
if ! sinfo -h -o %t 2>/dev/null | grep -q idle; then
    echo "no node comes up:"
    tail -n 5 "$tmp/munged" "$tmp/slurmctld.log" "$tmp/slurmd.log" "$tmp/ctld" "$tmp/d" 2>/dev/null || :
    exit 1
fi

make_corpus
cat >"$tmp/s.ini" <<INI
include = $srcdir/conf/tiny.ini
[model]
hidden_size = 16
[task]
train = corpus/train
heldout = corpus/heldout
[train]
steps = 150
checkpoint_every = 25
[sweep]
train.lr = 1e-2 | 4e-3
run.seed = 1 | 2
[run]
dir = sweep
INI
# the same sweep without Slurm
run 0 "$CHIMERA" sweep "$tmp/s.ini" run.dir="$tmp/whole"
run 0 "$CHIMERA" sweep "$tmp/s.ini" --slurm "$tmp/array.sh" --jobs 2
# gone FILTER: no job of ours is queued
gone() { i=0; while [ -n "$(squeue -h 2>/dev/null)" ] && [ $i -lt 600 ]; do sleep 0.2; i=$((i + 1)); done; [ -z "$(squeue -h)" ]; }
run 0 sbatch "$tmp/array.sh"
# cancelled in the middle: what was begun is saved, and submitting again goes on
i=0
while ! grep -q ' start' "$tmp/sweep/journal" && [ $i -lt 150 ]; do sleep 0.1; i=$((i + 1)); done
scancel -u root
gone || no "cancelled jobs stay: $(squeue)"
run 0 sbatch "$tmp/array.sh"
gone || no "jobs stay: $(squeue)"
run 0 "$CHIMERA" sweep "$tmp/sweep" --status
says out '4 jobs: 4 done'
run 0 "$CHIMERA" sweep "$tmp/sweep"
if cmp -s "$tmp/sweep/results.tsv" "$tmp/whole/results.tsv"; then ok
else no "another table: $(diff "$tmp/sweep/results.tsv" "$tmp/whole/results.tsv"; cat "$tmp"/sweep/slurm-*.out)"; fi
for id in $(awk 'NR > 1 { print $1 }' "$tmp/whole/results.tsv"); do
    if cmp -s "$tmp/sweep/$id/ckpt/0000000150/model.safetensors" "$tmp/whole/$id/ckpt/0000000150/model.safetensors"; then ok
    else no "$id: other bits"; fi
done
finish
