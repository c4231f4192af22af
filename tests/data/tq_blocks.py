#!/usr/bin/env python3
"""Blocks TQ1_0 and TQ2_0 made a second time, from the description in doc and llama.cpp's layout alone.

Writes C arrays to standard output: python3 tq_blocks.py >tq_blocks.h.  Each case is 256 trits, the 16 bits of
the scale, and the bytes of both blocks."""
import random
import struct
import textwrap


def tq2_0(t, d):
    out = bytearray()
    for half in range(0, 256, 128):
        for m in range(32):
            byte = 0
            for n in reversed(range(4)):
                byte = byte * 4 + t[half + 32 * n + m] + 1
            out.append(byte)
    return bytes(out) + struct.pack("<e", d)


def tq1_0(t, d):
    def digits(rest):
        number = 0
        for trit in rest:
            number = number * 3 + trit + 1
        number *= 3 ** (5 - len(rest))
        return -(-number * 256 // 243)

    out = bytearray()
    for start, lanes, deep in ((0, 32, 5), (160, 16, 5), (240, 4, 4)):
        for m in range(lanes):
            out.append(digits(t[start + m:start + m + lanes * deep:lanes]))
    return bytes(out) + struct.pack("<e", d)


def row(data, signed=False):
    text = "{ " + ", ".join(str(x) if signed else "0x%02x" % x for x in data) + " }"
    return "\n  ".join(textwrap.wrap(text, 110))


random.seed(1)
cases = [([0] * 256, 1.0), ([1] * 256, -0.5), ([-1] * 256, 6.0e-8), ([1, -1] * 128, 65504.0),
         ([1] + [0] * 255, 1.0), ([0] * 255 + [-1], 0.0)]
cases += [([random.choice((-1, 0, 1)) for _ in range(256)], random.randrange(2048) / 65536) for _ in range(6)]
print("/* made by tq_blocks.py: do not edit */")
print("static const struct { int8_t t[256]; float d; uint8_t tq1[54], tq2[66]; } tq_blocks[%d] = {" % len(cases))
for trits, scale in cases:
    scale = struct.unpack("<e", struct.pack("<e", scale))[0]
    print("{ %s, %sf,\n  %s,\n  %s }," % (row(trits, True), float.hex(scale), row(tq1_0(trits, scale)), row(tq2_0(trits, scale))))
print("};")
