#!/usr/bin/env python3
"""Writes a file of reference vectors from a PyTorch layer, for `chimera validate --vectors`.

    python3 vectors.py LAYER.py -o FILE.safetensors [--batch 2] [--rows 37] [--seed 1]

LAYER.py defines
    config      the INI text that makes the same layer in chimera: [model] hidden_size, num_hidden_layers,
                vocab_size, layer_pattern, ffn_pattern, and the section [layer.ALIAS] with `use = NAME`
    layer       the ALIAS
    module()    a torch.nn.Module that maps x [B, T, hidden_size] to y [B, T, hidden_size]; every row of
                the batch is a stream of its own that starts empty
    names       optional: {name of the torch parameter: name of chimera's}, where they differ

All expected values are computed in float64 from parameters and inputs that are exact float32 values.
The tolerance is 8 times the worst error that float32 causes by itself, at least 2e-5: measured by
running the module in float32, and by moving inputs and parameters by half a unit in the last place.
doc/vectors.md describes the file.  Needs PyTorch and nothing else.
"""
import argparse
import copy
import json
import re
import runpy
import struct

import torch


def exact(t):
    """The nearest float32 value, as float64"""
    return t.detach().float().double()


def run(module, x, dy):
    """y, dx and the gradients of sum(dy * y), by name"""
    module.zero_grad()
    x = x.clone().requires_grad_(True)
    y = module(x)
    if y.shape != dy.shape:
        raise SystemExit(f'vectors.py: y has shape {tuple(y.shape)}, wanted {tuple(dy.shape)}')
    (dy * y).sum().backward()
    out = {'y': y.detach(), 'dx': x.grad}
    for name, p in module.named_parameters():
        if p.grad is None:
            raise SystemExit(f'vectors.py: parameter {name} has no gradient: it does nothing')
        out['grad.' + name] = p.grad.clone()
    return out


def error(got, want):
    return max(float((got[n].double() - want[n]).abs().max() / (want[n].abs().max() + 1e-6)) for n in want)


def tolerance(module, x, dy, want, draws=8):
    worst = error(run(copy.deepcopy(module).float(), x.float(), dy.float()), want)
    for _ in range(draws):
        moved = copy.deepcopy(module)
        shake = lambda t: t * (1 + (2 * torch.rand_like(t) - 1) * 2.0 ** -24)
        with torch.no_grad():
            for p in moved.parameters():
                p.copy_(shake(p))
        worst = max(worst, error(run(moved, shake(x), dy), want))
    return max(8 * worst, 2e-5)


def write(path, meta, tensors):
    """tensors: {name: (tensor, 'F64' or 'F32')}; float64 first, no holes, header padded to 8 bytes"""
    order = sorted(tensors, key=lambda n: (tensors[n][1] != 'F64', n))
    header, data, at = {'__metadata__': meta}, [], 0
    for name in order:
        t, dtype = tensors[name]
        t = t.detach().to(torch.float64 if dtype == 'F64' else torch.float32).contiguous()
        raw = t.numpy().astype('<f8' if dtype == 'F64' else '<f4').tobytes()
        header[name] = {'dtype': dtype, 'shape': list(t.shape), 'data_offsets': [at, at + len(raw)]}
        data.append(raw)
        at += len(raw)
    text = json.dumps(header).encode()
    text += b' ' * (-len(text) % 8)
    with open(path, 'wb') as f:
        f.write(struct.pack('<Q', len(text)) + text + b''.join(data))


def of_config(config, section, key):
    part = re.search(r'^\[' + re.escape(section) + r'\]\n(.*?)(?=^\[|\Z)', config, re.M | re.S)
    value = part and re.search(r'^\s*' + key + r'\s*=\s*([^;\s]+)', part[1], re.M)
    if not value:
        raise SystemExit(f'vectors.py: config has no {key} in [{section}]')
    return value[1]


def main():
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument('layer', help='a Python file with config, layer and module()')
    args.add_argument('-o', '--output', required=True)
    args.add_argument('--batch', type=int, default=2)
    args.add_argument('--rows', type=int, default=37)
    args.add_argument('--seed', type=int, default=1)
    a = args.parse_args()

    torch.manual_seed(a.seed)
    mine = runpy.run_path(a.layer)
    config, alias, names = mine['config'], mine['layer'], mine.get('names', {})
    module = mine['module']().double()
    with torch.no_grad():       # away from start values: a weight of 1 or a bias of 0 would hide errors
        for p in module.parameters():
            p.copy_(exact(p + 0.2 * torch.rand_like(p) - 0.1))
    d = int(of_config(config, 'model', 'hidden_size'))
    x = exact(torch.randn(a.batch, a.rows, d, dtype=torch.float64))
    dy = exact(torch.randn(a.batch, a.rows, d, dtype=torch.float64))

    want = run(module, x, dy)
    tensors = {'x': (x, 'F32'), 'dy': (dy, 'F32'), 'expect.y': (want['y'], 'F64'), 'expect.dx': (want['dx'], 'F64')}
    for name, p in module.named_parameters():
        tensors['param.' + names.get(name, name)] = (p, 'F32')
        tensors['expect.grad.' + names.get(name, name)] = (want['grad.' + name], 'F64')
    limit = tolerance(module, x, dy, want)
    write(a.output, {'chimera.vectors': '1', 'kind': 'layer', 'subject': of_config(config, 'layer.' + alias, 'use'),
                     'config': config, 'layer': alias, 'tolerance': f'{limit:.3g}'}, tensors)
    print(f'{a.output}: {len(tensors)} tensors, tolerance {limit:.3g}')


if __name__ == '__main__':
    main()
