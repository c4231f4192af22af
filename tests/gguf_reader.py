"""gguf_reader.py - a second reader of GGUF files, of packed models and of safetensors, for the tests.

Written from the public descriptions alone (ggml's docs/gguf.md and ggml-common.h; the safetensors README;
doc/formats.md
and the pages of the encodings), in plain Python, with nothing of the C program.

    gguf_reader.py MODEL.gguf                        a line per tensor
    gguf_reader.py MODEL.gguf MODEL.b158|F32.safetensors ...
        compares every dequantised value of both, bit for bit; a packed model's matrices are read in ternary2, int8,
        tq1_0, tq2_0, bf16 and f32
    gguf_reader.py --llama LLAMA.gguf F32.safetensors
        compares a file of architecture llama under its names, with q's and k's rows in its order of rotary pairs, and
        reads its vocabulary of bytes
Exit code 0: all the same; 1: not; 3: damaged.
"""
import json
import struct
import sys

F32, F16, TQ1_0, TQ2_0 = 0, 1, 34, 35
NAMES = {F32: "F32", F16: "F16", TQ1_0: "TQ1_0", TQ2_0: "TQ2_0"}
BLOCK = {F32: (1, 4), F16: (1, 2), TQ1_0: (256, 54), TQ2_0: (256, 66)}


class Damaged(Exception):
    pass


class Bytes:
    """A cursor over bytes."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, n):
        if n > len(self.data) - self.at:
            raise Damaged("ends early at byte %d" % self.at)
        self.at += n
        return self.data[self.at - n:self.at]

    def number(self, form):
        return struct.unpack("<" + form, self.take(struct.calcsize("<" + form)))[0]

    def text(self):
        return self.take(self.number("Q")).decode("utf-8")


SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 10: "Q", 11: "q", 12: "d"}


def value(b, kind):
    if kind in SCALARS:
        return b.number(SCALARS[kind])
    if kind == 7:
        v = b.number("B")
        if v > 1:
            raise Damaged("a truth value is %d" % v)
        return bool(v)
    if kind == 8:
        return b.text()
    if kind == 9:
        inner, n = b.number("I"), b.number("Q")
        return [value(b, inner) for _ in range(n)]
    raise Damaged("a value of type %d" % kind)


class Gguf:
    def __init__(self, path):
        data = open(path, "rb").read()
        b = Bytes(data)
        if b.take(4) != b"GGUF" or b.number("I") != 3:
            raise Damaged("no GGUF file of version 3")
        tensors, pairs = b.number("Q"), b.number("Q")
        self.pairs, self.tensors = {}, {}
        for _ in range(pairs):
            key = b.text()
            self.pairs[key] = value(b, b.number("I"))
        align = self.pairs.get("general.alignment", 32)
        infos = []
        for _ in range(tensors):
            name = b.text()
            dims = [b.number("Q") for _ in range(b.number("I"))]
            infos.append((name, dims, b.number("I"), b.number("Q")))
        start = (b.at + align - 1) // align * align
        for name, dims, kind, offset in infos:
            if offset % align:
                raise Damaged("%s lies at %d" % (name, offset))
            if kind not in BLOCK:
                raise Damaged("%s has type %d" % (name, kind))
            n = 1
            for d in dims:
                n *= d
            size = n // BLOCK[kind][0] * BLOCK[kind][1]
            raw = data[start + offset:start + offset + size]
            if len(raw) != size:
                raise Damaged("%s ends early" % name)
            self.tensors[name] = (kind, dims[::-1], raw)        # the innermost dimension comes first in the file

    def floats(self, name):
        kind, _, raw = self.tensors[name]
        return {F32: floats, F16: halves, TQ1_0: tq1, TQ2_0: tq2}[kind](raw)


def floats(raw):
    return list(struct.unpack("<%df" % (len(raw) // 4), raw))


def halves(raw):
    return list(struct.unpack("<%de" % (len(raw) // 2), raw))


def f32(x):
    return struct.unpack("<f", struct.pack("<f", x))[0]


def tq2(raw):
    out = []
    for at in range(0, len(raw), 66):
        d = struct.unpack("<e", raw[at + 64:at + 66])[0]
        for half in (0, 32):
            for shift in (0, 2, 4, 6):
                for m in range(32):
                    out.append(f32(d * ((raw[at + half + m] >> shift & 3) - 1)))
    return out


def tq1(raw):
    def digit(byte, n):                                         # floor(3 ((b 3^n) mod 256) / 256)
        return (byte * 3 ** n % 256 * 3 >> 8) - 1
    out = []
    for at in range(0, len(raw), 54):
        d = struct.unpack("<e", raw[at + 52:at + 54])[0]
        trits = [digit(raw[at + m], n) for n in range(5) for m in range(32)]
        trits += [digit(raw[at + 32 + m], n) for n in range(5) for m in range(16)]
        trits += [digit(raw[at + 48 + m], n) for n in range(4) for m in range(4)]
        out += [f32(d * t) for t in trits]
    return out


# ---- packed models: doc/formats.md and the pages of the encodings -------------------------------------------------

class Packed:
    """A packed model, or any safetensors file with F32 tensors."""

    def __init__(self, path):
        data = open(path, "rb").read()
        n = struct.unpack("<Q", data[:8])[0]
        header = json.loads(data[8:8 + n])
        self.meta = header.pop("__metadata__", {})
        self.data, self.header, self.start = data, header, 8 + n
        self.names = [k for k in header if not k.startswith("pad.")]

    def raw(self, name):
        a, b = self.header[name]["data_offsets"]
        return self.data[self.start + a:self.start + b]

    def floats(self, name):
        line = self.meta.get(name, "")
        if self.header[name]["dtype"] == "F32":
            return floats(self.raw(name))
        words = dict(w.split("=") for w in line.split())
        rows, cols = (int(x) for x in words["shape"].split("x"))
        return DECODE[words["encoding"]](self.raw(name), rows, cols, int(words["group"]))


def plain(raw, rows, cols, group):
    return floats(raw[:4 * rows * cols])


def bf16(raw, rows, cols, group):
    return [struct.unpack("<f", b"\0\0" + raw[2 * i:2 * i + 2])[0] for i in range(rows * cols)]


def blocks(f):
    def decode(raw, rows, cols, group):
        size = {tq1: 54, tq2: 66}[f] * rows * cols // 256
        return f(raw[:size])
    return decode


def ternary2(raw, rows, cols, group):
    pieces, groups = (cols + 63) // 64 * 4, (cols + group - 1) // group
    tile = (pieces * 64 + 32 * groups + 63) // 64 * 64
    out = []
    for row in range(rows):
        at, r = row // 16 * tile, row % 16
        scale = [struct.unpack_from("<e", raw, at + pieces * 64 + 2 * (16 * g + r))[0] for g in range(groups)]
        for k in range(cols):
            i, j, c = k // 16, k % 16 // 4, k % 4
            t = (raw[at + 64 * i + 4 * r + c] >> 2 * j & 3) - 1
            out.append(f32(scale[k // group] * t))
    return out


def int8(raw, rows, cols, group):
    pieces = (cols + 63) // 64 * 16
    tile = pieces * 64 + 64
    out = []
    for row in range(rows):
        at, r = row // 16 * tile, row % 16
        scale = struct.unpack_from("<f", raw, at + pieces * 64 + 4 * r)[0]
        for k in range(cols):
            q = struct.unpack_from("b", raw, at + 64 * (k // 4) + 4 * r + k % 4)[0]
            out.append(f32(scale * q))
    return out


DECODE = {"f32": plain, "bf16": bf16, "tq1_0": blocks(tq1), "tq2_0": blocks(tq2), "ternary2": ternary2, "int8": int8}


# ---- architecture llama (llama.cpp's names and keys) ----------------------------------------------------------

LLAMA = {"token_embd": "embed", "output_norm": "final_norm", "output": "lm_head", "attn_norm": "norm1",
         "attn_q": "mixer.q_proj", "attn_k": "mixer.k_proj", "attn_v": "mixer.v_proj", "attn_output": "mixer.o_proj",
         "ffn_norm": "norm2", "ffn_gate": "ffn.gate_proj", "ffn_up": "ffn.up_proj", "ffn_down": "ffn.down_proj"}


def turned(values, cols, dim):
    """Rows of heads of dim channels: pairs (2j, 2j + 1) become pairs (j, j + dim / 2)."""
    rows = [values[i:i + cols] for i in range(0, len(values), cols)]
    out = []
    for head in range(0, len(rows), dim):
        out += rows[head:head + dim:2] + rows[head + 1:head + dim:2]
    return [v for row in out for v in row]


def is_vocabulary_of_bytes(p):
    """GPT-2 writes bytes that print as themselves and the others, in order, from U+0100 on; no merges."""
    shown = [b for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or b >= 174]
    hidden = [b for b in range(256) if b not in shown]
    want = [chr(b) if b in shown else chr(256 + hidden.index(b)) for b in range(256)]
    tokens = p["tokenizer.ggml.tokens"]
    return (p["tokenizer.ggml.model"] == "gpt2" and tokens[:256] == want and len(set(tokens)) == p["llama.vocab_size"]
            and p["tokenizer.ggml.merges"] == []
            and p["tokenizer.ggml.eos_token_id"] == p["tokenizer.ggml.bos_token_id"] == 256
            and p["tokenizer.ggml.token_type"][:257] == [1] * 256 + [3] and not p["tokenizer.ggml.add_bos_token"])


def compare_llama(g, other):
    wrong = abs(len(g.tensors) - len(other.names))
    for name, (_, dims, _) in g.tensors.items():
        words = name[:-len(".weight")].split(".")
        ours = ("layers.%s." % words[1] if words[0] == "blk" else "") + LLAMA[words[-1]] + ".weight"
        a, b = g.floats(name), other.floats(ours)
        if words[-1] in ("attn_q", "attn_k"):
            a = turned(a, dims[1], g.pairs["llama.attention.key_length"])
        if dims != other.header[ours]["shape"] or bits(a) != bits(b):
            print("%s is not %s" % (name, ours))
            wrong += 1
    if not is_vocabulary_of_bytes(g.pairs):
        print("its vocabulary is not that of bytes")
        wrong += 1
    return wrong


# ---- the program -------------------------------------------------------------------------------------------

def bits(values):
    return struct.pack("<%df" % len(values), *(v + 0.0 for v in values))        # -0 is 0


def compare(g, other):
    wrong = 0
    if other.meta.get("format", "").startswith("chimera.packed"):
        missing = [n for n in other.names if n not in g.tensors]
        wrong += len(missing)
        for name in missing:
            print("%s is missing" % name)
    for name in g.tensors:
        if name not in other.header:
            continue
        a, b = bits(g.floats(name)), bits(other.floats(name))
        if a != b:
            print("%s differs: %d values against %d" % (name, len(a) // 4, len(b) // 4))
            wrong += 1
    return wrong


def main():
    words = [w for w in sys.argv[1:] if not w.startswith("-")]
    try:
        g = Gguf(words[0])
        if "--llama" in sys.argv:
            print(" ".join("%s=%g" % (k[6:], v) for k, v in g.pairs.items() if k.startswith("llama.")))
        for key in ("general.architecture", "general.file_type", "chimera.format", "chimera.block_count"):
            print("%s = %s" % (key, g.pairs.get(key)))
        for name, (kind, dims, raw) in g.tensors.items():
            print("%s %s %s %d bytes" % (name, NAMES[kind], "x".join(map(str, dims)), len(raw)))
        against = compare_llama if "--llama" in sys.argv else compare
        wrong = sum(against(g, Packed(w)) for w in words[1:])
    except Damaged as e:
        print(e)
        return 3
    print("%d tensors, %d wrong" % (len(g.tensors), wrong))
    return wrong != 0


if __name__ == "__main__":
    sys.exit(main())
