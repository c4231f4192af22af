#!/usr/bin/python3
"""The comparison with PyTorch: one training step of a small gated-delta-rule language model on
the CPU, as a user of python3-torch would write it.  conf/anchor.ini has the same shape.

    S_t = exp(g_t) S_{t-1} (I - beta_t k_t k_t^T) + beta_t v_t k_t^T,   o_t = S_t q_t / sqrt(D)

(arXiv 2412.06464), computed in chunks of 64: within a chunk the updates u solve a unit lower
triangular system, between chunks the state moves once.  --check compares with the recurrence.

Model: vocabulary 4096, width 256, 4 x (RMSNorm, gated delta rule with 4 heads of 64 and an
output gate, RMSNorm, SwiGLU 768), a head of its own, AdamW, f32, 8 x 256 random tokens a step.
Prints one JSON object: tokens/s (median and best of the timed steps) and peak RSS in MiB.
"""
import argparse
import json
import resource
import statistics
import sys
import time

try:
    import torch
    import torch.nn.functional as F
    from torch import nn
except ImportError:
    print("torch_gdn.py: no PyTorch here (apt-get install python3-torch libopenblas0-openmp); skipped")
    sys.exit(77)


def delta_recurrent(q, k, v, beta, g):
    """q, k, v [B,H,T,D]; beta, g [B,H,T]; the state S is kept transposed, [B,H,K,V]."""
    state = q.new_zeros(*q.shape[:2], q.shape[-1], v.shape[-1])
    out = []
    for t in range(q.shape[2]):
        state = state * g[:, :, t, None, None].exp()
        key = k[:, :, t].unsqueeze(-1)
        seen = (state * key).sum(-2)
        state = state + key * (beta[:, :, t, None] * (v[:, :, t] - seen)).unsqueeze(-2)
        out.append((state * q[:, :, t].unsqueeze(-1)).sum(-2))
    return torch.stack(out, 2) * q.shape[-1] ** -0.5


def delta_chunked(q, k, v, beta, g, size=64):
    """The same, T a multiple of size.  With G the running sum of g in a chunk and
    D[i,j] = exp(G_i - G_j) for j <= i:  (I + strict_lower(beta k k^T * D)) u = beta (v - exp(G) k S)."""
    batch, heads, rows, dim = q.shape
    n = rows // size
    q, k, v = (x.reshape(batch, heads, n, size, -1) for x in (q * dim ** -0.5, k, v))
    beta = beta.reshape(batch, heads, n, size, 1)
    total = g.reshape(batch, heads, n, size).cumsum(-1)
    later = torch.ones(size, size, dtype=torch.bool).triu(1)
    decay = (total[..., :, None] - total[..., None, :]).masked_fill(later, float("-inf")).exp()
    system = ((beta * k) @ k.transpose(-1, -2) * decay).tril(-1) + torch.eye(size)
    right = torch.cat((beta * v, beta * k * total.exp().unsqueeze(-1)), -1)
    solved = torch.linalg.solve_triangular(system, right, upper=False, unitriangular=True)
    free, bound = solved.split((v.shape[-1], dim), -1)
    scores = q @ k.transpose(-1, -2) * decay
    q_in = q * total.exp().unsqueeze(-1)
    k_out = (k * (total[..., -1:] - total).exp().unsqueeze(-1)).transpose(-1, -2)
    keep = total[..., -1].exp()
    state = q.new_zeros(batch, heads, dim, v.shape[-1])
    out = []
    for c in range(n):
        update = free[:, :, c] - bound[:, :, c] @ state
        out.append(q_in[:, :, c] @ state + scores[:, :, c] @ update)
        state = state * keep[:, :, c, None, None] + k_out[:, :, c] @ update
    return torch.stack(out, 2).reshape(batch, heads, rows, -1)


class Norm(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * self.weight


class Block(nn.Module):
    def __init__(self, dim, heads, ffn):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2, self.o_norm = Norm(dim), Norm(dim), Norm(dim // heads)
        self.qkvg = nn.Linear(dim, 4 * dim, bias=False)
        self.gates = nn.Linear(dim, 2 * heads)
        self.o_proj = nn.Linear(dim, dim, bias=False)
        self.gate_up = nn.Linear(dim, 2 * ffn, bias=False)
        self.down = nn.Linear(ffn, dim, bias=False)

    def split(self, x):
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(self, x):
        y = self.norm1(x)
        q, k, v, gate = map(self.split, self.qkvg(y).chunk(4, -1))
        decay, beta = self.gates(y).transpose(1, 2).chunk(2, 1)
        o = delta_chunked(F.normalize(q, dim=-1), F.normalize(k, dim=-1), v, beta.sigmoid(), -F.softplus(decay))
        x = x + self.o_proj((self.o_norm(o) * F.silu(gate)).transpose(1, 2).flatten(2))
        gate, up = self.gate_up(self.norm2(x)).chunk(2, -1)
        return x + self.down(F.silu(gate) * up)


class Model(nn.Module):
    def __init__(self, vocab=4096, dim=256, layers=4, heads=4, ffn=768):
        super().__init__()
        self.embed = nn.Embedding(vocab, dim)
        self.blocks = nn.Sequential(*(Block(dim, heads, ffn) for _ in range(layers)))
        self.norm = Norm(dim)
        self.head = nn.Linear(dim, vocab, bias=False)
        for p in self.parameters():
            if p.dim() > 1:
                nn.init.normal_(p, std=0.02)

    def forward(self, token):
        return self.head(self.norm(self.blocks(self.embed(token))))


def check():
    q, k = (F.normalize(torch.randn(2, 4, 256, 64), dim=-1) for _ in range(2))
    v, beta, g = torch.randn(2, 4, 256, 64), torch.rand(2, 4, 256), -0.5 * torch.rand(2, 4, 256)
    a, b = delta_chunked(q, k, v, beta, g), delta_recurrent(q, k, v, beta, g)
    worst = ((a - b).abs().max() / b.abs().max()).item()
    print("chunked against recurrent: largest difference %.1e of the largest value" % worst)
    return 0 if worst < 1e-4 else 1


def main():
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument("--threads", type=int, default=2)
    args.add_argument("--steps", type=int, default=8, help="timed steps, after two others")
    args.add_argument("--check", action="store_true")
    a = args.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(1)
    if a.check:
        return check()
    model = Model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    token = torch.randint(0, 4096, (8, 257))
    seconds = []
    for step in range(a.steps + 2):
        start = time.perf_counter()
        loss = F.cross_entropy(model(token[:, :-1]).flatten(0, 1), token[:, 1:].flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if step >= 2:
            seconds.append(time.perf_counter() - start)
    print(json.dumps({
        "program": "torch " + torch.__version__, "threads": a.threads,
        "params": sum(p.numel() for p in model.parameters()), "loss": round(loss.item(), 4),
        "tok_s_median": round(8 * 256 / statistics.median(seconds), 1),
        "tok_s_best": round(8 * 256 / min(seconds), 1),
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
