#!/bin/sh
# run.tensorboard: the event file, read by a program that shares nothing with ours, says what metrics.jsonl says: of a
# whole run, of one that was killed and goes on, after a rollback of lines; a file that cannot be written ends nothing.
set -eu
. "$srcdir/tests/e2e/lib.sh"
if ! command -v python3 >/dev/null; then echo "no python3 to read the events with"; exit 77; fi
make_corpus
cat >"$tmp/run.ini" <<INI
[model]
hidden_size = 16
num_hidden_layers = 1
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
[task]
train = $corpus/train
heldout = $corpus/heldout
[train]
batch_size = 2
seq_len = 32
steps = 12
eval_every = 5
checkpoint_every = 4
[run]
tensorboard = yes
INI
cat >"$tmp/read.py" <<'PY'
import json, struct, sys
table = []                                          # CRC-32C a byte at a time, from the polynomial as it is written in books
def reflect(x, bits): return int(format(x, "0%db" % bits)[::-1], 2)
for i in range(256):
    c = reflect(i, 8) << 24
    for _ in range(8): c = (c << 1) ^ (0x1EDC6F41 if c & 0x80000000 else 0); c &= 0xffffffff
    table.append(reflect(c, 32))
def crc(data):
    c = 0xffffffff
    for b in data: c = table[(c ^ b) & 255] ^ (c >> 8)
    return c ^ 0xffffffff
assert crc(b"123456789") == 0xe3069283
def masked(data):
    c = crc(data)
    return (((c >> 15) | (c << 17)) + 0xa282ead8) & 0xffffffff
def fields(data):
    at = 0
    def varint():
        nonlocal at
        v = shift = 0
        while True:
            b = data[at]; at += 1
            v |= (b & 127) << shift; shift += 7
            if b < 128: return v
    while at < len(data):
        tag = varint()
        kind = tag & 7
        if kind == 0: value = varint()
        elif kind == 1: value = struct.unpack("<d", data[at:at + 8])[0]; at += 8
        elif kind == 5: value = struct.unpack("<f", data[at:at + 4])[0]; at += 4
        elif kind == 2: n = varint(); value = data[at:at + n]; assert len(value) == n; at += n
        else: raise ValueError(kind)
        yield tag >> 3, value
records, raw = [], open(sys.argv[1] + "/tensorboard/events.out.tfevents.chimera", "rb").read()
at = 0
while at < len(raw):
    head = raw[at:at + 8]
    n, = struct.unpack("<Q", head)
    assert struct.unpack("<I", raw[at + 8:at + 12])[0] == masked(head), "crc of a length"
    data = raw[at + 12:at + 12 + n]
    assert len(data) == n and struct.unpack("<I", raw[at + 12 + n:at + 16 + n])[0] == masked(data), "crc of a record"
    records.append(list(fields(data)))
    at += 16 + n
first = dict(records[0])
assert first[3] == b"brain.Event:2" and 1.5e9 < first[1] < 1e11, first
lines = [json.loads(l) for l in open(sys.argv[1] + "/metrics.jsonl")]
assert len(lines) == len(records) - 1 and len(lines) == int(sys.argv[2]), (len(lines), len(records))
for line, event in zip(lines, records[1:]):
    e = dict(event)
    assert e[2] == line["step"] and abs(e[1] - first[1] - line["wall_s"]) < 1e-5, (line, e)
    got = {}
    for field, value in fields(e[5]):
        assert field == 1
        v = dict(fields(value))
        got[v[1].decode()] = v[2]
    want = {k: v for k, v in line.items() if k != "step" and isinstance(v, (int, float)) and not isinstance(v, bool)}
    assert sorted(got) == sorted(want), (sorted(got), sorted(want))
    for k in want: assert abs(got[k] - want[k]) <= 1e-6 * abs(want[k]), (k, got[k], want[k])
assert "loss" in got or "heldout_bpb" in got
print("base %.6f" % first[1])
PY
read_back() { run 0 python3 "$tmp/read.py" "$tmp/$1" "$2"; cp "$tmp/out" "$tmp/base.$1"; }
train() { dir=$1; shift; run 0 "$CHIMERA" train "$tmp/run.ini" run.dir="$tmp/$dir" "$@"; }
train whole
read_back whole 15
train none run.tensorboard=no
if [ -e "$tmp/none/tensorboard" ]; then no "events that nobody asked for"; else ok; fi

# Goes on from step 8 although metrics and events know of later ones; the clock is the run's
train killed train.keep=0
read_back killed 15
cp "$tmp/base.killed" "$tmp/base"
rm -rf "$tmp/killed/ckpt/0000000012"
train killed --resume train.keep=0
read_back killed 15
if cmp -s "$tmp/base" "$tmp/base.killed"; then ok; else no "another clock after going on"; fi

# Going on repairs a file that a kill tore, that is damaged, or that is not there
events=$tmp/killed/tensorboard/events.out.tfevents.chimera
rm -rf "$tmp/killed/ckpt/0000000012"
head -c 1234 "$events" >"$tmp/torn"
cp "$tmp/torn" "$events"
train killed --resume train.keep=0
read_back killed 15
rm -rf "$tmp/killed/ckpt/0000000012" "$tmp/killed/tensorboard"
train killed --resume train.keep=0
read_back killed 15

# One that cannot be written is a warning
mkdir "$tmp/blocked"
echo "in the way" >"$tmp/blocked/tensorboard"
train blocked
says err 'warning: .*tensorboard'
if [ "$(grep -c '"loss"' "$tmp/blocked/metrics.jsonl")" -ge 12 ]; then ok; else no "metrics are missing"; fi
finish
