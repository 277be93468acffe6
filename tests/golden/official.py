"""The official Early-Bird code's rules, written from their description, in PyTorch and numpy.

What `make_golden.py`, `parity.py`, `official_rules.py`, `check_export.py` and `../../benches/vs_pytorch.py` share: the CIFAR VGG, its optimiser step
with the L1 sub-gradient, masks and both detectors, the surgery of sequential nets, and the FLOP count. This is the reference the Rust code is
judged by, so nothing in here knows or calls `earlybird`. Rules: RICE-EIC/Early-Bird-Tickets at 4a16ae0 (main.py, models/vgg.py, vggprune.py,
compute_flops.py); the places where the paper differs are said where they occur.

    pip install torch numpy safetensors          # any torch from 2.0 on, the CPU build is enough
"""

import math
from fractions import Fraction

import numpy as np
import torch
from torch import nn

MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2023, 0.1994, 0.2010)

# 'M' is a 2x2 max-pool. The fifth pool is the AvgPool2d(2) in forward.
CFGS = {
    11: [64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512],
    13: [64, 64, "M", 128, 128, "M", 256, 256, "M", 512, 512, "M", 512, 512],
    16: [64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512],
    19: [64, 64, "M", 128, 128, "M"] + [256] * 4 + ["M"] + [512] * 4 + ["M"] + [512] * 4,
}


def scaled_cfg(depth, width=1.0):
    """The layer list of `depth` with every channel count times `width`, rounded half up, at least 1."""
    return [c if c == "M" else max(1, math.floor(c * width + 0.5)) for c in CFGS[depth]]


def normal_init(m, rng):
    """Weights of a conv N(0, sqrt(2/(k*k*Cout))), of a linear layer N(0, 0.01); from `rng` (numpy) where one is given."""
    conv = isinstance(m, nn.Conv2d)
    std = math.sqrt(2.0 / (m.kernel_size[0] * m.kernel_size[1] * m.out_channels)) if conv else 0.01
    with torch.no_grad():
        if rng is None:
            m.weight.normal_(0, std)
        else:
            m.weight.copy_(torch.from_numpy(rng.standard_normal(tuple(m.weight.shape)) * std))


class VGG(nn.Module):
    """CIFAR VGG: `feature` is one nn.Sequential of conv (no bias), BN, ReLU, pool; then AvgPool2d(2), one Linear."""

    def __init__(self, cfg, classes=10):
        super().__init__()
        layers, c = [], 3
        for k in cfg:
            if k == "M":
                layers.append(nn.MaxPool2d(2, 2))
            else:
                layers += [nn.Conv2d(c, k, 3, padding=1, bias=False), nn.BatchNorm2d(k), nn.ReLU(inplace=True)]
                c = k
        self.feature = nn.Sequential(*layers)
        self.classifier = nn.Linear(c, classes)
        self.initialise(None)

    def initialise(self, rng):
        """Conv N(0, sqrt(2/(k*k*Cout))), BN scale 0.5 and shift 0, linear N(0, 0.01), bias 0; from `rng` (numpy) where one is given."""
        for m in self.modules():
            if isinstance(m, (nn.Conv2d, nn.Linear)):
                normal_init(m, rng)
                if m.bias is not None:
                    nn.init.zeros_(m.bias)
            elif isinstance(m, nn.BatchNorm2d):
                nn.init.constant_(m.weight, 0.5)
                nn.init.zeros_(m.bias)

    def forward(self, x):
        x = nn.functional.avg_pool2d(self.feature(x), 2)
        return self.classifier(x.flatten(1))


def normalise(images, dtype, mean=MEAN, std=STD):
    """uint8 NCHW images to the network's input: /255, minus mean, over std, in `dtype`."""
    x = torch.from_numpy(np.ascontiguousarray(images)).to(dtype) / 255
    mean, std = (torch.tensor(v, dtype=dtype).view(1, 3, 1, 1) for v in (mean, std))
    return (x - mean) / std


def norms(model):
    """The BN layers in `modules()` order."""
    return [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]


def train_step(model, optimiser, x, labels, l1):
    """One step: mean cross-entropy, L1 sub-gradient `l1 * sign(gamma)` added to the scales' gradients before the optimiser. Returns the loss."""
    optimiser.zero_grad(set_to_none=True)
    loss = nn.functional.cross_entropy(model(x), labels)
    loss.backward()
    if l1:
        for bn in norms(model):
            bn.weight.grad.add_(l1 * torch.sign(bn.weight.detach()))
    optimiser.step()
    return loss.item()


def float_state(model):
    """The state dict without BN's batch counters, as float64 numpy arrays."""
    return {k: v.detach().double().numpy() for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}


def deviation(state, reference):
    """Relative norm of the difference over all weights and running statistics."""
    assert state.keys() == reference.keys(), sorted(state.keys() ^ reference.keys())
    diff = sum(float(np.sum((state[k].astype(np.float64) - reference[k]) ** 2)) for k in reference)
    return math.sqrt(diff / sum(float(np.sum(reference[k] ** 2)) for k in reference))


# ---- masks and detectors ------------------------------------------------------------------------------------------


def scales(model):
    """|gamma| of all BN layers, f32, in one vector."""
    return np.concatenate([bn.weight.detach().abs().float().numpy().ravel() for bn in norms(model)])


def draw_mask(v, ratio):
    """Kept = strictly greater than the trunc(N*ratio)-th of the ascending |v|; ties with the threshold go."""
    v = np.abs(np.asarray(v, dtype=np.float32))
    return v > np.sort(v)[int(len(v) * ratio)]


def distance(a, b):
    """1 - (share of equal entries), in f64, as the official code computes it."""
    return 1.0 - int((a == b).sum()) / len(a)


class Window:
    """The official rule: a queue of five masks; when full, the newest against each of the four older ones, none above 0.1."""

    def __init__(self, ratio, eps=0.1, length=5):
        self.ratio, self.eps, self.length, self.masks, self.distances = ratio, eps, length, [], []

    def update(self, v):
        self.masks = (self.masks + [draw_mask(v, self.ratio)])[-self.length:]
        self.distances = [distance(self.masks[-1], m) for m in self.masks[:-1]]
        return len(self.masks) == self.length and not any(d > self.eps for d in self.distances)


class Consecutive:
    """The paper's rule: the last five distances between neighbouring draws, all below eps.

    Compared as fractions, because in f64 the official form of the distance gives 0.09999999999999998 for exactly one tenth, and one tenth is not below 0.1.
    """

    def __init__(self, ratio, eps="0.1", length=5):
        self.ratio, self.eps, self.length, self.last, self.distances = ratio, Fraction(eps), length, None, []

    def update(self, v):
        mask = draw_mask(v, self.ratio)
        if self.last is not None:
            d = Fraction(int((mask != self.last).sum()), len(mask))
            self.distances = (self.distances + [d])[-self.length:]
        self.last = mask
        return len(self.distances) == self.length and all(d < self.eps for d in self.distances)


# ---- surgery --------------------------------------------------------------------------------------------------------


def layer_masks(model, mask, min_channels=0):
    """Cuts the net's mask into layers; with `min_channels`, a layer that would keep fewer keeps that many of its largest |gamma|."""
    out, at = [], 0
    for bn in norms(model):
        n, g = bn.num_features, bn.weight.detach().abs().numpy()
        m = mask[at:at + n].copy()
        at += n
        if m.sum() < min_channels:
            m[np.argsort(-g, kind="stable")[:min_channels]] = True
        out.append(m)
    return out


def prune(model, masks, classes=10):
    """A new VGG with the kept channels only (vggprune.py): conv [out kept, in kept], BN vectors [kept], linear columns [last kept]."""
    widths, cfg = iter(masks), []
    for m in model.feature:
        if isinstance(m, nn.Conv2d):
            cfg.append(int(next(widths).sum()))
        elif isinstance(m, nn.MaxPool2d):
            cfg.append("M")
    small = VGG(cfg, classes).to(next(model.parameters()).dtype)
    ins, masks = torch.arange(3), iter(masks)
    with torch.no_grad():
        for a, b in zip(model.feature, small.feature):
            if isinstance(a, nn.Conv2d):
                outs = torch.from_numpy(np.flatnonzero(next(masks)))
                b.weight.copy_(a.weight[outs][:, ins])
                ins = outs
            elif isinstance(a, nn.BatchNorm2d):
                for name in ("weight", "bias", "running_mean", "running_var"):
                    getattr(b, name).copy_(getattr(a, name)[ins])
        small.classifier.weight.copy_(model.classifier.weight[:, ins])
        small.classifier.bias.copy_(model.classifier.bias)
    return small


# ---- costs ----------------------------------------------------------------------------------------------------------


def flops(model, shape=(3, 32, 32)):
    """Forward operations per image with hooks on leaf modules, as compute_flops.py counts: conv 2*k*k*Cin/groups (+1 for a bias) per output, linear
    2*in*out + out, BN 2*numel, ReLU numel, pools k*k per output. What forward calls as a function is not counted."""
    total, handles = [0], []

    def hook(m, inputs, output):
        x = inputs[0]
        if isinstance(m, nn.Conv2d):
            per = 2 * m.kernel_size[0] * m.kernel_size[1] * (m.in_channels // m.groups) + (m.bias is not None)
            total[0] += per * output.numel()
        elif isinstance(m, nn.Linear):
            total[0] += 2 * m.in_features * m.out_features + m.out_features
        elif isinstance(m, nn.BatchNorm2d):
            total[0] += 2 * x.numel()
        elif isinstance(m, nn.ReLU):
            total[0] += x.numel()
        elif isinstance(m, (nn.MaxPool2d, nn.AvgPool2d)):
            total[0] += m.kernel_size ** 2 * output.numel()

    for m in model.modules():
        if not list(m.children()):
            handles.append(m.register_forward_hook(hook))
    model.eval()
    with torch.no_grad():
        model(torch.zeros(1, *shape))
    for h in handles:
        h.remove()
    return total[0]


# ---- data -----------------------------------------------------------------------------------------------------------


def synthetic_images(count, seed, classes=10, side=32):
    """Images with something to learn and no ties: a smooth pattern per class, a random shift and colour, pixel noise. uint8 NCHW and labels."""
    rng = np.random.Generator(np.random.PCG64(seed))
    yy, xx = np.mgrid[0:side, 0:side] / side
    images, labels = np.empty((count, 3, side, side), np.uint8), rng.integers(0, classes, count)
    for i, label in enumerate(labels):
        phase = rng.uniform(-0.4, 0.4, 2)
        wave = np.sin(2 * np.pi * ((1 + label % 4) * xx + phase[0])) * np.cos(2 * np.pi * ((1 + label // 4) * yy + phase[1]))
        colour = rng.uniform(30, 70, 3)[:, None, None]
        images[i] = np.clip(127 + colour * wave + rng.normal(0, 25, (3, side, side)), 0, 255).astype(np.uint8)
    return images, labels.astype(np.uint8)


def read_cifar(folder, train=True):
    """`cifar-10-batches-bin`: uint8 NCHW images and labels."""
    names = [f"data_batch_{i}.bin" for i in range(1, 6)] if train else ["test_batch.bin"]
    raw = np.concatenate([np.fromfile(f"{folder}/{n}", np.uint8).reshape(-1, 3073) for n in names])
    return raw[:, 1:].reshape(-1, 3, 32, 32), raw[:, 0]


def write_cifar(folder, images, labels, test_images, test_labels):
    """Writes `cifar-10-batches-bin`, the training images in order over five equal files."""
    def put(name, x, y):
        rows = np.concatenate([y[:, None].astype(np.uint8), x.reshape(len(x), -1)], axis=1)
        rows.tofile(f"{folder}/{name}")
    part = len(images) // 5
    assert part * 5 == len(images)
    for i in range(5):
        put(f"data_batch_{i + 1}.bin", images[i * part:(i + 1) * part], labels[i * part:(i + 1) * part])
    put("test_batch.bin", test_images, test_labels)
    with open(f"{folder}/batches.meta.txt", "w") as f:
        f.write("airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n")
