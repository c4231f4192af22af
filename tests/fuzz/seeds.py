#!/usr/bin/env python3
"""Writes the hand-made part of the corpus of tests/fuzz/packed.c: python3 seeds.py FOLDER"""
import json
import os
import struct
import sys


def file(header, data=b"", length=None, pad=b""):
    text = header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":")).encode()
    text += pad
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def tensor(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def packed(lines, tensors, data, **meta):
    head = {"header_xxh3": "0" * 16, "format": "chimera.packed 2", "model_hash": "0" * 16}
    if "part" not in meta:
        head.update({"config": "[model]\n", "manifest": "{}", "values": "0" * 16})
    head.update(meta)
    head.update(lines)
    text = json.dumps({"__metadata__": head, **tensors}, separators=(",", ":")).encode()
    return file(text, data, pad=b" " * (-(len(text) + 8) % 64))


hash0 = "xxh3=" + "0" * 16
line = "encoding=tl2 shape=16x64 group=64 act_block=64 " + hash0
two = {"a.weight": tensor("U8", [256], 0, 256), "n.weight": tensor("F32", [4], 256, 272), "pad.1": tensor("U8", [48], 272, 320)}
lines = {"a.weight": line, "n.weight": hash0}
seeds = {
    "empty": b"", "short": b"\0" * 7, "no_json": file(b"xx"), "no_tensor": file({}),
    "f32": file({"a": tensor("F32", [2, 3], 0, 24)}, bytes(24)),
    "half": file({"a": tensor("F16", [3], 0, 6), "b": tensor("BF16", [1], 6, 8)}, b"\0<\0|\xff\x03\x80\x7f"),
    "scalar": file({"a": tensor("I64", [], 0, 8)}, bytes(8)), "none": file({"a": tensor("U8", [0, 5], 0, 0)}),
    "overlap": file({"a": tensor("U8", [4], 0, 4), "b": tensor("U8", [4], 2, 6)}, bytes(6)),
    "hole": file({"a": tensor("U8", [4], 0, 4), "b": tensor("U8", [2], 6, 8)}, bytes(8)),
    "appended": file({"a": tensor("U8", [4], 0, 4)}, bytes(5)), "cut": file({"a": tensor("U8", [4], 0, 4)}, bytes(3)),
    "overflow": file({"a": tensor("F32", [4294967296, 4294967296], 0, 0)}),
    "huge": file(b"{}", length=2 ** 63), "long": file(b"{}", length=3), "twice": file(b'{"a":1,"a":2}'),
    "deep": file(b"{" + b'"a":[' * 40 + b"]" * 40 + b"}"), "unaligned": file({"a": tensor("U8", [1], 0, 1),
                                                                              "b": tensor("F32", [1], 1, 5)}, bytes(5)),
    "meta_number": file({"__metadata__": {"a": 1}}),
    "packed": packed(lines, two, bytes(320)),
    "packed_pad": packed(lines, two, bytes(319) + b"\1"),
    "packed_no_line": packed({"a.weight": line}, two, bytes(320)),
    "packed_other_format": packed(lines, two, bytes(320), format="chimera.packed 9"),
    "packed_shape": packed({**lines, "a.weight": line.replace("16x64", "99999999999999999999x64")}, two, bytes(320)),
    "packed_name": packed({**lines, "a.weight": line.replace("tl2", "../tl2")}, two, bytes(320)),
    "packed_hash": packed({**lines, "a.weight": line + "0"}, two, bytes(320)),
    "packed_experts": packed(lines, two, bytes(320), part="experts"),
    "packed_names_experts": packed({}, {}, b"", experts="x_experts.b158"),
    "packed_names_folder": packed(lines, two, bytes(320), experts="../x_experts.b158"),
    "packed_unaligned": packed({"a.weight": line, "b.weight": line}, {"a.weight": tensor("U8", [250], 0, 250),
                                                                      "b.weight": tensor("U8", [6], 250, 256)}, bytes(256)),
}
for name, data in seeds.items():
    with open(os.path.join(sys.argv[1], name), "wb") as f:
        f.write(data)
