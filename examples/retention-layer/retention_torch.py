"""The parallel form of retention (arXiv 2307.08621, equation 5) in PyTorch, which shares nothing
with the recurrent form in retention.c: what tools/vectors.py makes reference vectors from.

    y = W_o (silu(g) * groupnorm((Q K' * decay) V)),  Q, K turned by position
"""
import torch
from torch import nn

H, D, d, base = 3, 8, 20, 10000.0

config = f"""[model]
hidden_size = {d}
num_hidden_layers = 1
vocab_size = 97
layer_pattern = R
ffn_pattern = R
[layer.R]
use = retention
num_heads = {H}
head_dim = {D}
rope_theta = {base}
"""
layer = 'R'


class Retention(nn.Module):
    def __init__(self):
        super().__init__()
        for name in 'qkvg':
            setattr(self, name + '_proj', nn.Linear(d, H * D, bias=False))
        self.o_proj = nn.Linear(H * D, d, bias=False)
        self.group_norm = nn.GroupNorm(H, H * D, eps=1e-6)

    def heads(self, x):
        return x.view(*x.shape[:2], H, D).transpose(1, 2)       # [B, H, T, D]

    def turn(self, x):
        t = torch.arange(x.shape[2], dtype=torch.float64)[:, None]
        angle = t * base ** (-2 * torch.arange(D // 2, dtype=torch.float64) / D)
        c, s = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
        a, b = x[..., :D // 2], x[..., D // 2:]
        return torch.cat([a * c - b * s, a * s + b * c], -1)

    def forward(self, x):
        B, T, _ = x.shape
        q, k, v = (self.heads(p(x)) for p in (self.q_proj, self.k_proj, self.v_proj))
        age = torch.arange(T)[:, None] - torch.arange(T)[None, :]
        gamma = 1 - 2.0 ** (-5 - torch.arange(H, dtype=torch.float64))
        decay = torch.where(age >= 0, gamma[:, None, None] ** age.clamp(min=0), torch.zeros((), dtype=torch.float64))
        o = (self.turn(q) @ self.turn(k).transpose(2, 3) * D ** -0.5 * decay.to(x.dtype)) @ v
        o = o.transpose(1, 2).reshape(B * T, H * D)
        return self.o_proj(nn.functional.silu(self.g_proj(x)) * self.group_norm(o).view(B, T, H * D))


module = Retention
