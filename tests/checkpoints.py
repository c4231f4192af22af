"""checkpoints.py - small random checkpoints in the layouts of flash-linear-attention's gated_deltanet and of
xLSTM-7B, with the logits that those models give.

Written from the public definitions (fla/layers/gated_deltanet.py, fla/modules/mlp.py; NX-AI/xlstm
xlstm_large/model.py;
arXiv 2412.06464, 2503.13427, 2405.04517) in plain Python and float64, with nothing of the C program.

    checkpoints.py VARIANT DIR
writes DIR/config.json, DIR/model.safetensors or its parts with model.safetensors.index.json, and
DIR/expect.safetensors with tokens [T] I32 and logits [T, V] F64.
"""
import json
import math
import os
import random
import struct
import sys

T, V = 11, 41


# ---- files -------------------------------------------------------------------------------------------------

def pack(dtype, values):
    if dtype == "F32":
        return struct.pack("<%df" % len(values), *values)
    if dtype == "F16":
        return struct.pack("<%de" % len(values), *values)
    if dtype == "F64":
        return struct.pack("<%dd" % len(values), *values)
    if dtype == "I32":
        return struct.pack("<%di" % len(values), *values)
    words = [struct.unpack("<I", struct.pack("<f", v))[0] + 0x8000 >> 16 for v in values]
    return struct.pack("<%dH" % len(values), *words)


def rounded(dtype, values):
    """The values as the file has them."""
    raw = pack(dtype, values)
    if dtype == "F32":
        return list(struct.unpack("<%df" % len(values), raw))
    if dtype == "F16":
        return list(struct.unpack("<%de" % len(values), raw))
    return [struct.unpack("<f", b"\0\0" + raw[2 * i:2 * i + 2])[0] for i in range(len(values))]


def write(path, tensors):
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, (dtype, shape, values) in tensors:
        raw = pack(dtype, values)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-(len(text) + 8) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)


# ---- a little algebra --------------------------------------------------------------------------------------

def product(w, x):
    return [sum(a * b for a, b in zip(row, x)) for row in w]


def add(x, y):
    return [a + b for a, b in zip(x, y)]


def sigmoid(x):
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def silu(x):
    return x * sigmoid(x)


def softplus(x):
    return math.log1p(math.exp(-abs(x))) + max(x, 0)


def dot(x, y):
    return sum(a * b for a, b in zip(x, y))


def rmsnorm(x, gain, eps):
    r = 1 / math.sqrt(dot(x, x) / len(x) + eps)
    return [a * r * g for a, g in zip(x, gain)]


def swiglu(gate, up, down, x):
    return product(down, [silu(a) * b for a, b in zip(product(gate, x), product(up, x))])


def cap(x, c):
    return c * math.tanh(x / c)


class Weights:
    """Tensors by their names in the file; get() gives the values as the file has them, as rows."""

    def __init__(self, seed, dtype):
        self.random, self.dtype, self.all = random.Random(seed), dtype, []

    def new(self, name, shape, spread=None, center=0.0, dtype=None):
        n = math.prod(shape)
        spread = spread if spread is not None else 1.2 / math.sqrt(shape[-1])
        values = [self.random.gauss(center, spread) for _ in range(n)]
        dtype = dtype or self.dtype
        values = rounded(dtype, values)
        self.all.append((name, (dtype, list(shape), values)))
        if len(shape) == 1:
            return values
        width = n // shape[0]
        return [values[i * width:(i + 1) * width] for i in range(shape[0])]


# ---- flash-linear-attention: GatedDeltaNetForCausalLM ------------------------------------------------------

def convolve(w, rows):
    """Causal, depthwise, the last tap at the present token; then silu."""
    taps = len(w[0])
    return [[silu(sum(w[c][j] * rows[t - taps + 1 + j][c] for j in range(taps) if t - taps + 1 + j >= 0))
             for c in range(len(w))] for t in range(len(rows))]


def unit(x):
    r = 1 / math.sqrt(dot(x, x) + 1e-6)
    return [a * r for a in x]


def delta_net(p, c, rows):
    """Head h of the values has the queries and keys of head h // share."""
    heads, dk, dv = c["num_v_heads"] or c["num_heads"], c["head_dim"], int(c["head_dim"] * c["expand_v"])
    share = heads // c["num_heads"]
    q, k, v = ([product(p[n + "_proj"], x) for x in rows] for n in "qkv")
    if c["use_short_conv"]:
        q, k, v = (convolve(p[n + "_conv1d"], y) for n, y in zip("qkv", (q, k, v)))
    else:
        q, k, v = ([[silu(a) for a in row] for row in y] for y in (q, k, v))
    memory = [[[0.0] * dk for _ in range(dv)] for _ in range(heads)]
    out = []
    for t, x in enumerate(rows):
        a, b = product(p["a_proj"], x), product(p["b_proj"], x)
        gate = product(p["g_proj"], x) if c["use_gate"] else None
        o = []
        for h in range(heads):
            g = h // share
            qh, kh = unit(q[t][g * dk:(g + 1) * dk]), unit(k[t][g * dk:(g + 1) * dk])
            vh = v[t][h * dv:(h + 1) * dv]
            beta = sigmoid(b[h]) * (2 if c["allow_neg_eigval"] else 1)
            decay = math.exp(-math.exp(p["A_log"][h]) * softplus(a[h] + p["dt_bias"][h]))
            s = [[decay * z for z in row] for row in memory[h]]
            for i in range(dv):
                u = beta * (vh[i] - dot(s[i], kh))
                s[i] = [z + u * kk for z, kk in zip(s[i], kh)]
            memory[h] = s
            y = rmsnorm([dot(row, qh) / math.sqrt(dk) for row in s], p["o_norm"], c["norm_eps"])
            o += [z * silu(g) for z, g in zip(y, gate[h * dv:(h + 1) * dv])] if gate else y
        out.append(product(p["o_proj"], o))
    return out


def turned(x, t, theta):
    """Rotary positions (arXiv 2104.09864) on the pairs (j, j + half)."""
    half = len(x) // 2
    out = list(x)
    for j in range(half):
        angle = t * theta ** (-j / half)
        c, s = math.cos(angle), math.sin(angle)
        out[j], out[j + half] = x[j] * c - x[j + half] * s, x[j] * s + x[j + half] * c
    return out


def attention(p, a, rows, heads):
    """fla/layers/attn.py: causal softmax; a token sees the last window_size, itself included, or all."""
    q, k, v = ([product(p[n + "_proj"], x) for x in rows] for n in "qkv")
    n = len(q[0]) // heads
    window = a["window_size"] or len(rows)
    theta = a["rope_theta"]
    out = []
    for t in range(len(rows)):
        o = []
        for h in range(heads):
            cut = slice(h * n, (h + 1) * n)
            qh = turned(q[t][cut], t, theta)
            seen = range(max(0, t - window + 1), t + 1)
            score = [dot(qh, turned(k[j][cut], j, theta)) / math.sqrt(n) for j in seen]
            weight = [math.exp(z - max(score)) for z in score]
            o += [sum(x * v[j][cut][i] for x, j in zip(weight, seen)) / sum(weight) for i in range(n)]
        out.append(product(p["o_proj"], o))
    return out


def gated_deltanet(w, c, tokens):
    d, heads, dk, dv = c["hidden_size"], c["num_heads"], c["head_dim"], int(c["head_dim"] * c["expand_v"])
    v_heads, attn = c["num_v_heads"] or heads, c["attn"] or {"layers": []}
    inner = c["intermediate_size"] or 256 * ((int(d * 4 * 2 / 3) + 255) // 256)
    taps = c["conv_size"]
    embed = w.new("model.embeddings.weight", [V, d], 0.7)
    x = [list(embed[t]) for t in tokens]
    for i in range(c["num_hidden_layers"]):
        at = "model.layers.%d." % i
        norm1 = w.new(at + "attn_norm.weight", [d], 0.1, 1)
        normed = [rmsnorm(row, norm1, c["norm_eps"]) for row in x]
        if i in attn["layers"]:
            p = {n + "_proj": w.new("%sattn.%s_proj.weight" % (at, n), [d, d]) for n in "qkvo"}
            mixed = attention(p, attn, normed, attn["num_heads"])
        else:
            shapes = {"q": heads * dk, "k": heads * dk, "v": v_heads * dv, "a": v_heads, "b": v_heads}
            if c["use_gate"]:
                shapes["g"] = v_heads * dv
            p = {n + "_proj": w.new("%sattn.%s_proj.weight" % (at, n), [rows, d]) for n, rows in shapes.items()}
            p["A_log"] = w.new(at + "attn.A_log", [v_heads], 0.5, 0, "F32")
            p["dt_bias"] = w.new(at + "attn.dt_bias", [v_heads], 0.5, -2, "F32")
            for n in "qkv" if c["use_short_conv"] else "":
                p[n + "_conv1d"] = w.new("%sattn.%s_conv1d.weight" % (at, n), [shapes[n], 1, taps], 0.6)
            p["o_norm"] = w.new(at + "attn.o_norm.weight", [dv], 0.1, 1)
            p["o_proj"] = w.new(at + "attn.o_proj.weight", [d, v_heads * dv])
            mixed = delta_net(p, c, normed)
        x = [add(a, b) for a, b in zip(x, mixed)]
        norm2 = w.new(at + "mlp_norm.weight", [d], 0.1, 1)
        mlp = [w.new("%smlp.%s_proj.weight" % (at, n), s)
               for n, s in (("gate", [inner, d]), ("up", [inner, d]), ("down", [d, inner]))]
        x = [add(a, swiglu(*mlp, rmsnorm(a, norm2, c["norm_eps"]))) for a in x]
    norm = w.new("model.norm.weight", [d], 0.1, 1)
    head = embed if c["tie_word_embeddings"] else w.new("lm_head.weight", [V, d])
    return [product(head, rmsnorm(row, norm, c["norm_eps"])) for row in x]


# ---- xLSTM-7B ----------------------------------------------------------------------------------------------

def mlstm(p, c, rows, heads, dk, dv):
    memory = [[[0.0] * dk for _ in range(dv)] for _ in range(heads)]
    norm, m = [[0.0] * dk for _ in range(heads)], [0.0] * heads
    out = []
    for x in rows:
        q, k, v, gate = (product(p[n], x) for n in ("q", "k", "v", "o"))
        i_pre = [cap(z, c["gate_soft_cap"]) for z in add(product(p["i"], x), p["i_bias"])]
        f_pre = [cap(z, c["gate_soft_cap"]) for z in add(product(p["f"], x), p["f_bias"])]
        row = []
        for h in range(heads):
            qh, kh, vh = q[h * dk:(h + 1) * dk], k[h * dk:(h + 1) * dk], v[h * dv:(h + 1) * dv]
            keep = -softplus(-f_pre[h]) + m[h]
            now = max(keep, i_pre[h])
            a, b = math.exp(keep - now), math.exp(i_pre[h] - now)
            memory[h] = [[a * z + b * vh[r] * kk for z, kk in zip(memory[h][r], kh)] for r in range(dv)]
            norm[h] = [a * z + b * kk for z, kk in zip(norm[h], kh)]
            m[h] = now
            scaled = [z / math.sqrt(dk) for z in qh]
            den = max(abs(dot(norm[h], scaled)), math.exp(-now)) + c["eps"]
            y = [dot(r, scaled) / den for r in memory[h]]
            mean = sum(y) / dv
            y = [z - mean for z in y]
            r = 1 / math.sqrt(dot(y, y) / dv + c["norm_eps"])
            row += [z * r for z in y]
        row = [sigmoid(g) * z * n for g, z, n in zip(gate, row, p["norm"])]
        out.append(product(p["out"], row))
    return out


def xlstm(w, c, tokens, native, names):
    d, heads = c["embedding_dim"], c["num_heads"]
    dk, dv = int(d * c["qk_dim_factor"]) // heads, int(d * c["v_dim_factor"]) // heads
    multiple = c["ffn_round_up_to_multiple_of"]
    up = int((d * c["ffn_proj_factor"] + multiple - 1) // multiple * multiple)
    embed = w.new("embedding.weight" if native else "backbone.embeddings.weight", [V, d], 0.7)
    x = [list(embed[t]) for t in tokens]
    for i in range(c["num_blocks"]):
        at = "backbone.blocks.%d." % i
        cell, ffn = at + "mlstm_layer.", at + "ffn."
        norm1 = w.new(at + "norm_mlstm.weight", [d], 0.1, 1)
        p = {}
        if c["weight_mode"] == "fused":
            rows = w.new(cell + "qkv_opreact.weight", [2 * heads * (dk + dv), d])
            cuts = [0, heads * dk, 2 * heads * dk, 2 * heads * dk + heads * dv, 2 * heads * (dk + dv)]
            for n, a, b in zip("qkvo", cuts, cuts[1:]):
                p[n] = rows[a:b]
            gates = w.new(cell + "ifgate_preact.weight", [2 * heads, d])
            bias = w.new(cell + "ifgate_preact.bias", [2 * heads], 1)
            p["i"], p["f"], p["i_bias"], p["f_bias"] = gates[:heads], gates[heads:], bias[:heads], bias[heads:]
        else:
            for n, name, rows in zip("qkvo", names + ("ogate_preact",), (dk, dk, dv, dv)):
                p[n] = w.new("%s%s.weight" % (cell, name), [heads * rows, d])
            for n in "if":
                p[n] = w.new("%s%sgate_preact.weight" % (cell, n), [heads, d])
                p[n + "_bias"] = w.new("%s%sgate_preact.bias" % (cell, n), [heads], 1)
        p["norm"] = w.new(cell + "multihead_norm.weight", [heads * dv], 0.1, 1)
        p["out"] = w.new(cell + "out_proj.weight", [d, heads * dv])
        normed = [rmsnorm(row, norm1, c["norm_eps"]) for row in x]
        x = [add(a, b) for a, b in zip(x, mlstm(p, c, normed, heads, dk, dv))]
        norm2 = w.new(at + "norm_ffn.weight", [d], 0.1, 1)
        if c["weight_mode"] == "fused":
            both = w.new(ffn + "proj_up_gate_z.weight", [2 * up, d])
            gate, z = both[:up], both[up:]
        else:
            gate, z = w.new(ffn + "proj_up_gate.weight", [up, d]), w.new(ffn + "proj_up.weight", [up, d])
        down = w.new(ffn + "proj_down.weight", [d, up])
        x = [add(a, swiglu(gate, z, down, rmsnorm(a, norm2, c["norm_eps"]))) for a in x]
    norm = w.new("backbone.out_norm.weight", [d], 0.1, 1)
    head = w.new("lm_head.weight", [V, d])
    soft = c["output_logit_soft_cap"]
    return [[cap(z, soft) if soft else z for z in product(head, rmsnorm(row, norm, c["norm_eps"]))] for row in x]


# ---- variants ----------------------------------------------------------------------------------------------

GDN = {"architectures": ["GatedDeltaNetForCausalLM"], "model_type": "gated_deltanet", "attn": None,
       "attn_mode": "chunk",
       "hidden_size": 24, "num_hidden_layers": 2, "num_heads": 2, "head_dim": 8, "expand_v": 2, "num_v_heads": None,
       "use_gate": True, "use_short_conv": True, "allow_neg_eigval": False, "conv_size": 4, "hidden_ratio": 4,
       "intermediate_size": 40, "hidden_act": "swish", "norm_eps": 1e-5, "tie_word_embeddings": False,
       "vocab_size": V,
       "fuse_norm": True, "fuse_swiglu": True, "fuse_cross_entropy": True, "torch_dtype": "float32",
       "use_cache": True,
       "bos_token_id": 1, "eos_token_id": 2, "initializer_range": 0.02, "max_position_embeddings": 2048}
XLSTM = {"architectures": ["xLSTMForCausalLM"], "model_type": "xlstm", "embedding_dim": 32, "num_blocks": 2,
         "num_heads": 2,
         "head_dim": 16, "qk_dim_factor": 0.5, "v_dim_factor": 1.0, "use_bias": False, "norm_eps": 1e-6,
         "cell_norm_eps": 1e-6,
         "eps": 1e-6, "add_out_norm": True, "add_post_blocks_norm": True, "add_post_norm": False,
         "add_qk_norm": False,
         "add_embedding_dropout": False, "ffn_proj_factor": 2.667, "ffn_round_up_to_multiple_of": 8,
         "gate_soft_cap": 4.0,
         "output_logit_soft_cap": 3.0, "weight_mode": "single", "tie_word_embeddings": False, "vocab_size": V,
         "forward_backend_name": "chunkwise--triton_limit_chunk", "step_backend_name": "triton_fused",
         "torch_dtype": "float32",
         "return_last_states": True, "mlstm_round_up_to_multiple_of": 64, "igate_bias_init_range": -10.0}
SINGLE, LONG = ("q", "k", "v"), ("query", "key", "value")
# config, changes, dtype, parts, then of xlstm: the names of NX-AI's own program, those of q, k and v
VARIANTS = {
    "gdn": (GDN, {}, "F32", 1),
    "gdn_tied": (GDN, {"tie_word_embeddings": True, "expand_v": 1.5, "use_gate": False, "allow_neg_eigval": True,
                       "conv_size": 3,
                       "intermediate_size": None, "num_hidden_layers": 1}, "BF16", 3),
    "gdn_narrow": (GDN, {"use_short_conv": False, "expand_v": 0.5, "num_hidden_layers": 1,
                         "norm_eps": 0.01}, "F16", 1),
    "gdn_grouped": (GDN, {"num_v_heads": 6, "num_heads": 3, "head_dim": 4, "num_hidden_layers": 1}, "F32", 1),
    "gdn_hybrid": (GDN, {"num_hidden_layers": 3, "intermediate_size": 24, "num_v_heads": 4,
                         "attn": {"layers": [0, 2], "num_heads": 3, "num_kv_heads": 3, "qkv_bias": False,
                                  "window_size": 4, "rope_theta": 500.0}}, "F32", 1),
    "gdn_hybrid_whole": (GDN, {"num_hidden_layers": 2, "intermediate_size": 24,
                               "attn": {"layers": [1], "num_heads": 2, "num_kv_heads": 2, "qkv_bias": False,
                                        "window_size": None, "rope_theta": 10000.0}}, "F16", 1),
    "xlstm": (XLSTM, {}, "F32", 2, False, SINGLE),
    "xlstm_fused": (XLSTM, {"weight_mode": "fused", "v_dim_factor": 0.5, "head_dim": 8, "qk_dim_factor": 1.0,
                            "norm_eps": 0.01, "cell_norm_eps": 0.01, "eps": 0.1}, "BF16", 1, False, SINGLE),
    "xlstm_yaml": (XLSTM, {"num_blocks": 1, "norm_eps": 1e-05, "cell_norm_eps": 1e-05}, "F32", 2, True, SINGLE),
    "xlstm_native": (XLSTM, {"output_logit_soft_cap": None, "num_blocks": 1}, "F32", 1, True, LONG),
}


# The keys of NX-AI's own xLSTMLargeConfig, as its config.yaml has them
NATIVE = ("embedding_dim", "num_heads", "num_blocks", "vocab_size", "use_bias", "norm_eps", "add_out_norm", "qk_dim_factor",
          "v_dim_factor", "ffn_proj_factor", "ffn_round_up_to_multiple_of", "eps", "gate_soft_cap", "output_logit_soft_cap",
          "weight_mode", "return_last_states")


def yaml_text(c):
    word = {True: "true", False: "false", None: "null"}
    return "".join("%s: %s\n" % (k, word[c[k]] if c[k] is None or isinstance(c[k], bool) else c[k]) for k in NATIVE)


def main():
    variant, folder = sys.argv[1:]
    config, changes, dtype, parts = VARIANTS[variant][:4]
    c = dict(config, **changes)
    w = Weights(len(variant) * 7 + 1, dtype)
    tokens = [w.random.randrange(V) for _ in range(T)]
    logits = gated_deltanet(w, c, tokens) if config is GDN else xlstm(w, c, tokens, *VARIANTS[variant][4:])
    os.makedirs(folder, exist_ok=True)
    yaml = variant.endswith("yaml")
    with open(os.path.join(folder, "config.yaml" if yaml else "config.json"), "w") as f:
        f.write(yaml_text(c) if yaml else json.dumps(c, indent=2))
    if yaml:
        for i in range(parts):
            write(os.path.join(folder, "model_%d.safetensors" % i), w.all[i::parts])
    elif parts == 1:
        write(os.path.join(folder, "model.safetensors"), w.all)
    else:
        names = ["model-%05d-of-%05d.safetensors" % (i + 1, parts) for i in range(parts)]
        for i, name in enumerate(names):
            write(os.path.join(folder, name), w.all[i::parts])
        index = {"metadata": {"total_size": 0}, "weight_map": {t[0]: names[i % parts] for i, t in enumerate(w.all)}}
        with open(os.path.join(folder, "model.safetensors.index.json"), "w") as f:
            json.dump(index, f, indent=2)
    write(os.path.join(folder, "expect.safetensors"),
          [("logits", ("F64", [T, V], [z for row in logits for z in row])), ("tokens", ("I32", [T], tokens))])


if __name__ == "__main__":
    main()
