#!/usr/bin/env python3
"""Writes the hand-made part of the corpus of tests/fuzz/gguf.c: python3 gguf_seeds.py FOLDER"""
import os
import struct
import sys


def text(s):
    s = s if isinstance(s, bytes) else s.encode()
    return struct.pack("<Q", len(s)) + s


def pair(key, kind, raw):
    return text(key) + struct.pack("<I", kind) + raw


def tensor(name, dims, kind, offset):
    return text(name) + struct.pack("<I%dQIQ" % len(dims), len(dims), *dims, kind, offset)


def file(pairs=(), tensors=(), data=b"", version=3, n_pairs=None, n_tensors=None, align=32):
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors) if n_tensors is None else n_tensors,
                                 len(pairs) if n_pairs is None else n_pairs)
    head += b"".join(pairs) + b"".join(tensors)
    return head + b"\0" * (-len(head) % align) + data


name = pair("general.architecture", 8, text("chimera"))
floats = struct.pack("<8f", *range(8))
deep = struct.pack("<IQ", 9, 1) * 9 + struct.pack("<IQ", 0, 1) + b"\1"
seeds = {
    "empty": b"", "short": b"GGUF\3", "nothing": file(), "one": file([name], [tensor("w", [8], 0, 0)], floats),
    "scalars": file([pair("a.%d" % k, k, b"\1" * n) for k, n in enumerate((1, 1, 2, 2, 4, 4, 4, 1))]
                    + [pair("b.%d" % k, k, b"\1" * 8) for k in (10, 11, 12)]),
    "arrays": file([pair("a", 9, struct.pack("<IQ", 8, 2) + text("x") + text("y")),
                    pair("b", 9, struct.pack("<IQ", 5, 3) + b"\0" * 12),
                    pair("c", 9, struct.pack("<IQ", 9, 1) + struct.pack("<IQ", 7, 2) + b"\0\1")]),
    "trits": file([name], [tensor("a", [256, 2], 34, 0), tensor("b", [256], 35, 128)],
                  b"\5" * 108 + b"\0" * 20 + b"\6" * 66),
    "aligned": file([pair("general.alignment", 4, struct.pack("<I", 8))],
                    [tensor("a", [3], 0, 0), tensor("b", [1], 1, 16)],
                    b"\1" * 12 + b"\0" * 4 + b"\1" * 2, align=8),
    "version": file(version=2), "big_endian": b"GGUF" + struct.pack(">IQQ", 3, 0, 0),
    "many_pairs": file(n_pairs=2 ** 60), "many_tensors": file(n_tensors=2 ** 63),
    "twice": file([name, name]), "bool": file([pair("a", 7, b"\2")]), "kind": file([pair("a", 13, b"")]),
    "deep": file([pair("a", 9, deep)]),
    "long_array": file([pair("a", 9, struct.pack("<IQ", 12, 2 ** 61) + b"\0" * 64)]),
    "long_text": file([pair("a", 8, struct.pack("<Q", 2 ** 64 - 1))]), "no_key": file([pair("", 0, b"\1" * 20)]),
    "nul": file([pair("a", 8, text(b"x\0y"))]), "blank": file([pair("a b", 0, b"\1" * 20)]),
    "alignment": file([pair("general.alignment", 4, struct.pack("<I", 48))]),
    "alignment_text": file([pair("general.alignment", 8, text("32"))]),
    "same_tensor": file([], [tensor("w", [8], 0, 0), tensor("w", [8], 0, 32)], floats * 2),
    "zero": file([], [tensor("w", [8, 0], 0, 0)], floats), "no_dims": file([], [tensor("w", [], 0, 0)], floats),
    "five_dims": file([], [tensor("w", [1, 1, 1, 1, 8], 0, 0)], floats),
    "overflow": file([], [tensor("w", [2 ** 33, 2 ** 33], 0, 0)], floats),
    "bytes_overflow": file([], [tensor("w", [2 ** 62], 0, 0)], floats),
    "end_overflow": file([], [tensor("w", [2 ** 61 - 1], 0, 0)], floats),
    "block": file([], [tensor("w", [128, 2], 35, 0)], b"\0" * 96),
    "q4": file([], [tensor("w", [32], 2, 0)], b"\0" * 32),
    "hole": file([], [tensor("w", [8], 0, 32)], floats * 2), "cut": file([], [tensor("w", [64], 0, 0)], floats),
    "appended": file([], [tensor("w", [8], 0, 0)], floats + b"x"),
    "dirty": file([], [tensor("w", [2], 0, 0), tensor("v", [8], 0, 32)], b"\1" * 32 + floats),
}
for key, raw in seeds.items():
    with open(os.path.join(sys.argv[1], key), "wb") as f:
        f.write(raw)
