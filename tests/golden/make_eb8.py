#!/usr/bin/env python3
"""Makes eb8.safetensors: what QPyTorch, on which the official 8-bit training runs, says about rounding and about training steps.

    pip install torch numpy safetensors qtorch ninja     # and a C++ compiler: qtorch builds its extension when it is imported
    python tests/golden/make_eb8.py

Rounding: qtorch's own `block_quantize_stochastic` and `block_quantize_nearest` on the CPU. Its noise comes from a C++ generator that Python cannot seed; this script writes a
known state into that generator's memory, so that the noise of every element is known and stored with the case. (libstdc++ turns a 32-bit word of the generator into a number
below 2^31 by dropping its last bit; that this holds is checked on every element.)

Training: the official placement of main_lp.py (early-bird.md section 5) by qtorch's `sequential_lower` and `OptimLP` themselves, on a small VGG, in f32, NCHW and NHWC. Only the
noise is not qtorch's: its kernel is replaced by the formula below, which the first part has just shown to be the same bit for bit, and gets the noise that `earlybird` draws:
Philox4x32-7 by seed, step, tensor and element (src/quant/layout.rs). Written from those rules; nothing here calls `earlybird`. The net is small, because sums in another order
move a rounding now and then, which moves others: the share of elements that differ between the two layouts is stored as the yardstick for a third implementation.
"""

import copy
import ctypes

import numpy as np
import torch
from torch import nn

import official
from make_golden import Golden
from qtorch import BlockFloatingPoint
from qtorch.auto_low import sequential_lower
from qtorch.optim import OptimLP
from qtorch.quant import Quantizer, quantizer
from qtorch.quant import quant_function

QPYTORCH = quant_function.quant_cpu


def block_round(x, r, dim=0):
    """QPyTorch's block rounding to 8 bits (quant_cpu.cpp, block_kernel.cu) with the noise `r`, one integer per element, of which the low 15 bits count."""
    x = np.ascontiguousarray(x, np.float32)
    largest = np.abs(x).reshape(len(x), -1).max(1) if dim == 0 else np.abs(x).max()
    field = np.ascontiguousarray(largest, np.float32).view(np.uint32) & 0x7F800000
    s = field.view(np.float32).reshape((-1,) + (1,) * (x.ndim - 1))
    base = np.float32(6) * s
    y = (((x + base).view(np.uint32) + (r.astype(np.uint32) & 0x7FFF)) & np.uint32(0xFFFF8000)).view(np.float32) - base
    top = s * np.float32(127 / 64)
    return np.where((y.view(np.uint32) & 0x7F800000) > s.view(np.uint32), np.copysign(top, y), y).astype(np.float32)


def seed_qpytorch(seed):
    """Puts a known Mersenne twister into qtorch's extension; returns the noise it will give."""
    words = np.random.RandomState(seed).get_state()[1].astype(np.uint64)
    state = (ctypes.c_uint64 * 625).in_dll(ctypes.CDLL(QPYTORCH.__file__), "gen")
    state[:] = [int(w) for w in words] + [624]
    return lambda count: np.random.RandomState(seed).randint(0, 2 ** 32, count, np.uint64).astype(np.uint32) >> 1


# ---- rounding --------------------------------------------------------------------------------------------------------


def rounding(g):
    sizes = np.array([1.0, 0.0, 1e-14, 3e13, 2e-36, 1e36, 2.0 ** -20, 0.999], np.float32)
    for seed, shape in enumerate([(8, 3, 5, 7), (7, 6, 3, 3), (10, 33), (999,), (1, 1), (8, 4097)]):
        x = g.rng.standard_normal(shape).astype(np.float32)
        x *= sizes[np.arange(shape[0]) % len(sizes)].reshape((-1,) + (1,) * (len(shape) - 1))
        if len(shape) > 1:
            x.reshape(shape[0], -1)[:, -1] = np.nextafter(np.float32(2), np.float32(0)) * sizes[np.arange(shape[0]) % len(sizes)]  # just below a power of two
        r = seed_qpytorch(seed)(x.size).reshape(shape)
        y = QPYTORCH.block_quantize_stochastic(torch.from_numpy(x), 8, 0).numpy()
        near = QPYTORCH.block_quantize_nearest(torch.from_numpy(x), 8, 0).numpy()
        for ours, theirs in ((block_round(x, r), y), (block_round(x, np.full(shape, 1 << 14)), near)):
            assert np.array_equal(ours.view(np.uint32), theirs.view(np.uint32)), "the formula or the noise is not QPyTorch's"
        g.put(g.case("block", shape=list(shape)), x=x, r=(r & 0x7FFF).astype(np.int32), y=y, nearest=near)


# ---- training --------------------------------------------------------------------------------------------------------


def philox(counters, key):
    """Philox4x32 with 7 rounds of counters [n, 4]."""
    c, k, low = counters.astype(np.uint64).T.copy(), [np.uint64(v) for v in key], np.uint64(0xFFFFFFFF)
    for _ in range(7):
        a, b = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        c = np.stack([(b >> np.uint64(32)) ^ c[1] ^ k[0], b & low, (a >> np.uint64(32)) ^ c[3] ^ k[1], a & low])
        k = [(k[0] + np.uint64(0x9E3779B9)) & low, (k[1] + np.uint64(0xBB67AE85)) & low]
    return np.ascontiguousarray(c.T).astype(np.uint32)


ROLES = {"y": 1, "dyd": 3, "w": 5, "v": 6, "g": 7}


def noise(seed, step, tensor, first, count):
    """The 15-bit numbers of elements first.. of a tensor: eight to a counter, the upper bits of its halfwords."""
    groups = np.arange(first // 8, (first + count + 7) // 8)
    words = philox(np.stack([groups, np.full_like(groups, step), np.full_like(groups, tensor), np.zeros_like(groups)], 1), (seed & 0xFFFFFFFF, seed >> 32))
    return (words.view(np.uint16).reshape(-1) >> 1)[first % 8:][:count].astype(np.uint32)


def arena(model):
    """First element of every parameter: scales one behind the other, all others at multiples of 16."""
    scales, others, at, places = [], [], 0, {}
    for name, m in model.named_modules():
        for suffix, p in m.named_parameters(recurse=False):
            (scales if isinstance(m, nn.BatchNorm2d) and suffix == "weight" else others).append((f"{name}.{suffix}", p))
    for name, p in scales:
        places[name], at = at, at + p.numel()
    for name, p in others:
        at = -(-at // 16) * 16
        places[name], at = at, at + p.numel()
    return places


class Device:
    """Stands in for qtorch's extension: the next tensor to be rounded has the role and name that come next in `plan`."""

    def __init__(self, seed, layout):
        self.seed, self.layout, self.step, self.plan = seed, layout, 0, []

    def block_quantize_stochastic(self, x, wl, dim):
        assert (wl, dim) == (8, 0)
        role, tensor, first = self.plan.pop(0)
        memory = x.permute(0, 2, 3, 1) if x.dim() == 4 else x  # the order in which earlybird keeps it
        r = noise(self.seed, self.step, tensor, first, x.numel()).reshape(tuple(memory.shape))
        y = torch.from_numpy(block_round(memory.contiguous().numpy(), r))
        return y.permute(0, 3, 1, 2).contiguous(memory_format=self.layout) if x.dim() == 4 else y


CFG = [8, "M", 12, 16, "M"]
TRAIN = dict(side=8, batch=16, lr=0.05, momentum=0.9, weight_decay=0.02, l1=0.03, steps=[1, 3], seed=0x0123_4567_89AB_CDEF)


def run(init, images, labels, layout, about):
    """States and momenta after the steps listed, and the losses."""
    number = BlockFloatingPoint(wl=8, dim=0)
    plain = official.VGG(CFG)
    plain.load_state_dict(init)
    places = arena(plain)
    model = sequential_lower(plain, layer_types=["conv", "linear"], forward_number=number, backward_number=number)
    model.classifier = model.classifier[0]
    model = model.to(memory_format=layout).train()
    bare = lambda name: name.replace(".0.weight", ".weight") if name.count(".") == 3 else name
    names = [bare(name) for name, _ in model.named_parameters()]
    assert sorted(names) == sorted(places), names
    convs = [i for i, m in enumerate(plain.feature) if isinstance(m, nn.Conv2d)]
    assert sum(isinstance(m, Quantizer) for m in model.modules()) == 1, "one shared quantiser"
    q = {key: quantizer(forward_number=number, forward_rounding="stochastic") for key in ("weight_quant", "grad_quant", "momentum_quant")}
    sgd = torch.optim.SGD(model.parameters(), lr=about["lr"], momentum=about["momentum"], weight_decay=about["weight_decay"])
    opt = OptimLP(sgd, **q)
    device = quant_function.quant_cpu = Device(about["seed"], layout)
    x, y, b = torch.from_numpy(images).to(memory_format=layout), torch.from_numpy(labels.astype(np.int64)), about["batch"]
    states, losses = [], []
    for step in range(max(about["steps"])):
        # Module feature.N is node N+1 of the graph: the images are node 0.
        device.step = step
        device.plan = [("y", (i + 1) * 16 + ROLES["y"], 0) for i in convs] + [("dyd", (i + 1) * 16 + ROLES["dyd"], 0) for i in reversed(convs)]
        device.plan += [(role, ROLES[role], places[name]) for role in "gwv" for name in names]
        rows = slice(step * b, (step + 1) * b)
        losses.append(official.train_step(model, opt, x[rows], y[rows], about["l1"]))
        assert not device.plan, "fewer tensors were rounded than planned"
        if step + 1 in about["steps"]:
            state = {bare(k): v.detach().numpy().copy() for k, v in model.state_dict().items() if "num_batches" not in k}
            momenta = {n: sgd.state[p]["momentum_buffer"].numpy().copy() for n, p in zip(names, model.parameters())}
            states.append((state, momenta))
    quant_function.quant_cpu = QPYTORCH
    return states, losses


def differing(a, b):
    """Share of elements that differ."""
    return sum(int((a[k] != b[k]).sum()) for k in a) / sum(a[k].size for k in a)


def train(g):
    model = official.VGG(CFG)
    model.initialise(g.rng)
    n = TRAIN["batch"] * max(TRAIN["steps"])
    images, labels = g.normal(n, 3, TRAIN["side"], TRAIN["side"]).float().numpy(), g.rng.integers(0, 10, n).astype(np.int32)
    init = copy.deepcopy(model.state_dict())
    (nchw, losses), (nhwc, _) = (run(init, images, labels, layout, TRAIN) for layout in (torch.contiguous_format, torch.channels_last))
    weights = {n for n, _ in model.named_parameters()}
    shares = [[differing({k: a[i][k] for k in weights}, {k: b[i][k] for k in weights}) for i in (0, 1)] for a, b in zip(nchw, nhwc)]
    print(f"losses {losses}; share of weights and momenta that differ between NCHW and NHWC after {TRAIN['steps']} steps: {shares}")
    g.cases.append({"op": "train", "id": "train", **{**TRAIN, "seed": str(TRAIN["seed"])}, "losses": losses, "differing": [s[0] for s in shares],
                    "differing_momenta": [s[1] for s in shares]})
    g.put("train", images=images, labels=labels)
    g.put("init", **{k: v.astype(np.float32) for k, v in official.float_state(model).items()})
    for steps, (state, momenta) in zip(TRAIN["steps"], nchw):
        g.put(f"after{steps}", **state)
        g.put(f"momenta{steps}", **momenta)


def main():
    g = Golden("eb8", 16)
    rounding(g)
    train(g)
    g.write()


if __name__ == "__main__":
    main()
