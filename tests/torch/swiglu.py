"""swiglu in PyTorch, for tools/vectors.py: y = W_down (silu(W_gate x) * (W_up x))"""
from torch import nn

config = """[model]
hidden_size = 24
num_hidden_layers = 1
vocab_size = 97
layer_pattern = MLP
ffn_pattern = MLP
[layer.MLP]
use = swiglu
intermediate_size = 40
"""
layer = 'MLP'
names = {'w1.weight': 'gate_proj.weight', 'w3.weight': 'up_proj.weight', 'w2.weight': 'down_proj.weight'}


class SwiGLU(nn.Module):
    def __init__(self):
        super().__init__()
        self.w1, self.w3 = nn.Linear(24, 40, bias=False), nn.Linear(24, 40, bias=False)
        self.w2 = nn.Linear(40, 24, bias=False)

    def forward(self, x):
        return self.w2(nn.functional.silu(self.w1(x)) * self.w3(x))


module = SwiGLU
