"""qwen35.py - a model of gated_deltanet and swiglu as llama.cpp knows it, for the tests.

    qwen35.py FLOATS.safetensors OUT.gguf          (chimera export RUN -o FLOATS.safetensors, f32 weights, tied head)

The recurrent blocks of architecture qwen35 are that mixer with equal heads of q, k and v; its matrices for q, k and
v are one, so are their convolutions, and ssm_a is -exp(A_log).  llama.cpp runs no such model without softmax
attention, so a last block is one that adds nothing: its output matrices are 0.
"""
import math
import struct
import sys

from gguf_reader import Packed

U32, I32, F32, TEXT, ARRAY = 4, 5, 6, 8, 9


def text(s):
    return struct.pack("<Q", len(s.encode())) + s.encode()


def pair(key, kind, value):
    if kind == TEXT:
        value = text(value)
    elif kind == ARRAY:
        value = struct.pack("<IQ%di" % len(value), I32, len(value), *value)
    else:
        value = struct.pack("<f" if kind == F32 else "<I", value)
    return text(key) + struct.pack("<I", kind) + value


def constant(v, *shape):
    return list(shape), struct.pack("<f", v) * math.prod(shape)


class Model:
    def __init__(self, path):
        self.p = Packed(path)
        self.blocks = sum(n.endswith(".norm1.weight") for n in self.p.names)
        self.vocab, self.width = self.get("embed.weight")[0]
        self.heads, = self.get("layers.0.mixer.A_log")[0]
        self.dim, = self.get("layers.0.mixer.o_norm.weight")[0]
        self.ffn = self.get("layers.0.ffn.up_proj.weight")[0][0]
        self.taps = self.get("layers.0.mixer.q_conv1d.weight")[0][1]

    def get(self, name):
        return self.p.header[name]["shape"], self.p.raw(name)

    def joined(self, names):
        parts = [self.get(n) for n in names]
        return [sum(s[0] for s, _ in parts), parts[0][0][1]], b"".join(raw for _, raw in parts)

    def block(self, i):
        there, m = "blk.%d." % i, "layers.%d.mixer." % i
        shape, raw = self.get(m + "A_log")
        a = struct.pack("<%df" % shape[0], *(-math.exp(x) for x in struct.unpack("<%df" % shape[0], raw)))
        out = {"ssm_a": (shape, a), "ssm_dt.bias": self.get(m + "dt_bias"),
               "attn_qkv.weight": self.joined([m + x + "_proj.weight" for x in "qkv"]),
               "ssm_conv1d.weight": self.joined([m + x + "_conv1d.weight" for x in "qkv"])}
        for name, ours in (("attn_gate", "g_proj"), ("ssm_alpha", "a_proj"), ("ssm_beta", "b_proj"),
                           ("ssm_norm", "o_norm"), ("ssm_out", "o_proj")):
            out[name + ".weight"] = self.get(m + ours + ".weight")
        for name, ours in (("attn_norm", "norm1"), ("post_attention_norm", "norm2"), ("ffn_gate", "ffn.gate_proj"),
                           ("ffn_up", "ffn.up_proj"), ("ffn_down", "ffn.down_proj")):
            out[name + ".weight"] = self.get("layers.%d.%s.weight" % (i, ours))
        return {there + k: v for k, v in out.items()}

    def idle_block(self):
        d, inner = self.width, self.heads * self.dim
        shapes = {"attn_q": (2 * inner, d), "attn_k": (inner, d), "attn_v": (inner, d), "attn_output": (d, inner),
                  "ffn_gate": (self.ffn, d), "ffn_up": (self.ffn, d), "ffn_down": (d, self.ffn)}
        out = {k: constant(0, *s) for k, s in shapes.items()}
        for name, n in (("attn_norm", d), ("post_attention_norm", d), ("attn_q_norm", self.dim),
                        ("attn_k_norm", self.dim)):
            out[name] = constant(1, n)
        return {"blk.%d.%s.weight" % (self.blocks, k): v for k, v in out.items()}

    def tensors(self):
        out = {"token_embd.weight": self.get("embed.weight"), "output_norm.weight": self.get("final_norm.weight")}
        for i in range(self.blocks):
            out.update(self.block(i))
        out.update(self.idle_block())
        return out

    def pairs(self):
        numbers = {"vocab_size": self.vocab, "context_length": 4096, "embedding_length": self.width,
                   "block_count": self.blocks + 1, "feed_forward_length": self.ffn,
                   "attention.head_count": self.heads, "attention.head_count_kv": self.heads,
                   "attention.key_length": self.dim, "attention.value_length": self.dim,
                   "rope.dimension_count": self.dim, "ssm.conv_kernel": self.taps, "ssm.state_size": self.dim,
                   "ssm.inner_size": self.heads * self.dim, "ssm.time_step_rank": self.heads,
                   "ssm.group_count": self.heads, "full_attention_interval": self.blocks + 1}
        out = [pair("general.architecture", TEXT, "qwen35")]
        out += [pair("qwen35." + k, U32, v) for k, v in numbers.items()]
        out.append(pair("qwen35.rope.dimension_sections", ARRAY, [self.dim // 2, 0, 0, 0]))
        out.append(pair("qwen35.rope.freq_base", F32, 10000))
        out.append(pair("qwen35.attention.layer_norm_rms_epsilon", F32, 1e-6))
        out.append(pair("tokenizer.ggml.model", TEXT, "none"))
        return out


def main():
    m = Model(sys.argv[1])
    tensors, pairs, body = m.tensors(), m.pairs(), b""
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(pairs)) + b"".join(pairs)
    for name, (shape, raw) in tensors.items():
        head += text(name) + struct.pack("<I%dQ" % len(shape), len(shape), *shape[::-1])
        head += struct.pack("<IQ", 0, len(body))
        body += raw + bytes(-len(raw) % 32)
    with open(sys.argv[2], "wb") as f:
        f.write(head + bytes(-len(head) % 32) + body)


if __name__ == "__main__":
    main()
