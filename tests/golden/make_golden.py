#!/usr/bin/env python3
"""Makes the golden files beside it: what PyTorch says about operators, training, the detector, surgery and costs.

    pip install torch numpy safetensors
    python tests/golden/make_golden.py            # rewrites ops, train, residual, detector, surgery (.safetensors) and counts.json; about a minute
    python tests/golden/make_golden.py residual   # one of them

Deterministic: inputs come from numpy's PCG64 with fixed seeds and are stored, so a reader never has to re-draw them; results are PyTorch's in float64
on one thread. Another CPU or torch may move the last bits of the f64 results (and so of the f32 differences in train.safetensors), nothing else; the
recorded f32 deviations are those of the machine that ran this. Layout is PyTorch's throughout (NCHW, OIHW). Each file's metadata holds one
JSON text, `cases`, that says what the tensors `CASE/NAME` are.

  ops.safetensors       one operator per case: f32 inputs, f64 forward results and gradients
  train.safetensors     VGG11 at width 0.125: init (f32), 160 images, and the state after 1, 3, 5, 20 steps as f32 difference of the f64 run from the
                        init (good to 2e-8 of the state's norm)
  detector.safetensors  scale vectors over time with masks, distances and decisions of both criteria
  residual.safetensors  PreResNet-20 at width 0.25 and ResNet-18 at width 0.0625 on 64x64 images: init, images, the state after 1 and 3 steps, as in train;
                        state dicts with torchvision's and the official names, images, eval outputs in f64
  surgery.safetensors   VGG11 at width 0.0625, masks, pruned state dicts, eval outputs in f64
  counts.json           parameters, BN channels and FLOPs of every VGG at several widths
"""

import copy
import json
import pathlib
import sys

import numpy as np
import torch
from safetensors.numpy import save_file
from torch.nn import functional as F

import official
import official_residual

HERE = pathlib.Path(__file__).parent
torch.set_num_threads(1)


class Golden:
    """Collects cases and writes them."""

    def __init__(self, name, seed):
        self.path, self.rng = HERE / f"{name}.safetensors", np.random.Generator(np.random.PCG64(seed))
        self.tensors, self.cases = {}, []

    def case(self, op, **about):
        self.cases.append({"op": op, "id": f"{op}/{len([c for c in self.cases if c['op'] == op]):02}", **about})
        return self.cases[-1]["id"]

    def put(self, case, **tensors):
        for name, t in tensors.items():
            t = t.detach().numpy() if isinstance(t, torch.Tensor) else np.asarray(t)
            self.tensors[f"{case}/{name}"] = np.ascontiguousarray(t)

    def normal(self, *shape, mean=0.0, std=1.0):
        """f32 values, as f64 so that arithmetic on them is exact."""
        return torch.from_numpy((self.rng.standard_normal(shape) * std + mean).astype(np.float32)).double()

    def write(self):
        save_file(self.tensors, self.path, metadata={"cases": json.dumps(self.cases)})
        self.path.chmod(0o644)
        print(f"{self.path.name}: {len(self.cases)} cases, {self.path.stat().st_size / 1024:.0f} KiB")


def differentiate(y, dy, *inputs):
    """Gradients of sum(y * dy)."""
    return torch.autograd.grad(y, inputs, dy)


def f32(*tensors):
    return [t.detach().float() for t in tensors]


# ---- operators ------------------------------------------------------------------------------------------------------

# n, c, h, w, k, (r, s), (stride h, w), (pad h, w), bias
CONVS = [
    (1, 3, 8, 8, 4, (3, 3), (1, 1), (1, 1), False),
    (2, 37, 5, 5, 19, (3, 3), (1, 1), (1, 1), False),
    (3, 5, 7, 6, 37, (1, 1), (1, 1), (0, 0), True),
    (2, 3, 9, 9, 8, (5, 5), (2, 2), (2, 2), True),
    (1, 3, 17, 17, 5, (7, 7), (2, 2), (3, 3), False),
    (5, 16, 2, 2, 24, (3, 3), (1, 1), (1, 1), False),
    (4, 6, 2, 2, 7, (2, 2), (1, 1), (0, 0), True),
    (2, 4, 2, 2, 3, (1, 1), (2, 2), (0, 0), False),
    (3, 7, 11, 8, 9, (3, 3), (2, 2), (1, 1), True),
    (2, 8, 10, 10, 6, (3, 3), (3, 3), (0, 0), False),  # the last row and column are read by no window
    (1, 1, 5, 5, 1, (3, 3), (1, 1), (2, 2), False),
    (2, 2, 6, 6, 3, (2, 2), (2, 2), (1, 1), True),
    (2, 3, 8, 8, 4, (5, 5), (3, 3), (3, 3), False),
    (1, 48, 4, 4, 33, (3, 3), (1, 1), (1, 1), False),
    (4, 16, 8, 8, 16, (3, 3), (1, 1), (1, 1), False),
    (2, 17, 3, 3, 15, (2, 2), (3, 3), (1, 1), False),
    (1, 3, 7, 7, 2, (7, 7), (1, 1), (0, 0), False),  # output 1x1
    (2, 5, 6, 9, 4, (3, 1), (1, 2), (1, 0), False),
    (2, 5, 6, 9, 4, (1, 5), (2, 1), (0, 2), True),
    (3, 12, 6, 6, 10, (3, 3), (1, 1), (3, 3), True),  # the outermost windows see padding only
    (5, 33, 1, 1, 9, (3, 3), (1, 1), (1, 1), False),
    (1, 3, 32, 32, 16, (3, 3), (1, 1), (1, 1), False),
    (2, 4, 9, 9, 5, (1, 1), (3, 3), (1, 1), False),
    (2, 64, 4, 4, 16, (1, 1), (1, 1), (0, 0), False),
]


def conv2d(g):
    for n, c, h, w, k, (r, s), stride, pad, biased in CONVS:
        case = g.case("conv2d", n=n, c=c, h=h, w=w, k=k, kernel=[r, s], stride=stride, padding=pad, bias=biased)
        x, wt = g.normal(n, c, h, w), g.normal(k, c, r, s, std=(2.0 / (c * r * s)) ** 0.5)
        b = g.normal(k) if biased else None
        leaves = [t.requires_grad_() for t in (x, wt, b) if t is not None]
        y = F.conv2d(x, wt, b, stride=stride, padding=pad)
        dy = g.normal(*y.shape)
        grads = differentiate(y, dy, *leaves)
        for name, t in zip(("x", "w", "bias"), f32(*leaves)):
            g.put(case, **{name: t})
        g.put(case, dy=dy.float(), y=y, **dict(zip(("dx", "dw", "dbias"), grads)))


def batchnorm(g):
    # n, c, h, w, mean and std of the input, relu behind it
    for n, c, h, w, mean, std, relu in [
        (4, 16, 3, 3, 0.0, 1.0, False), (3, 37, 2, 2, 0.5, 2.0, True), (2, 1, 1, 1, 0.0, 1.0, False), (5, 5, 7, 6, -3.0, 0.5, True),
        (8, 3, 4, 4, 100.0, 1.0, False),  # a large offset: one-pass variances fail here
        (2, 6, 4, 4, 0.0, 1e-4, True),  # eps outweighs the variance
    ]:
        case = g.case("batchnorm", n=n, c=c, h=h, w=w, relu=relu)
        x = g.normal(n, c, h, w, mean=mean, std=std).requires_grad_()
        if c == 6:
            x.data[:, 0] = 0.25  # a constant channel: variance 0
        gamma, beta = g.normal(c, mean=0.5, std=0.5).requires_grad_(), g.normal(c).requires_grad_()
        rm, rv = g.normal(c), (g.normal(c).abs() + 0.1).float().double()
        rm2, rv2 = rm.clone(), rv.clone()
        y = F.batch_norm(x, rm2, rv2, gamma, beta, training=True, momentum=0.1, eps=1e-5)
        y = F.relu(y) if relu else y
        dy = g.normal(n, c, h, w)
        dx, dgamma, dbeta = differentiate(y, dy, x, gamma, beta)
        ye = F.batch_norm(x, rm, rv, gamma, beta, training=False, eps=1e-5)
        ye = F.relu(ye) if relu else ye
        xs, gs, bs, dys, rms, rvs = f32(x, gamma, beta, dy, rm, rv)
        g.put(case, x=xs, gamma=gs, beta=bs, dy=dys, running_mean=rms, running_var=rvs, y=y, dx=dx, dgamma=dgamma, dbeta=dbeta,
              running_mean_after=rm2, running_var_after=rv2, y_eval=ye)


def elementwise(g):
    for shape in [(1, 1, 1, 1), (3, 37, 5, 4)]:
        n, c, h, w = shape
        case = g.case("relu", n=n, c=c, h=h, w=w)
        x = g.normal(*shape)
        x[:, ::3] = torch.where(g.normal(*x[:, ::3].shape) > 0.5, 0.0, x[:, ::3])  # exact zeros: no gradient there
        x.requires_grad_()
        y, dy = F.relu(x), g.normal(*shape)
        g.put(case, x=x.float(), dy=dy.float(), y=y, dx=differentiate(y, dy, x)[0])
        case = g.case("add", n=n, c=c, h=h, w=w)
        a, b = g.normal(*shape), g.normal(*shape)
        g.put(case, a=a.float(), b=b.float(), y=a + b)
    for n, c, h, w, kept in [(2, 9, 3, 2, [0, 3, 4, 8]), (3, 37, 4, 4, list(range(1, 37, 2))), (1, 5, 1, 1, [4])]:
        case = g.case("select", n=n, c=c, h=h, w=w, channels=kept)
        x = g.normal(n, c, h, w).requires_grad_()
        y = x.index_select(1, torch.tensor(kept))
        dy = g.normal(*y.shape)
        g.put(case, x=x.float(), dy=dy.float(), y=y, dx=differentiate(y, dy, x)[0])


def pools(g):
    for n, c, h, w, kernel, stride, pad in [
        (2, 5, 8, 8, 2, 2, 0), (1, 37, 4, 4, 2, 2, 0), (3, 4, 7, 9, 3, 2, 1), (2, 3, 6, 6, 3, 1, 1), (2, 3, 9, 9, 2, 3, 0), (2, 4, 2, 2, 2, 2, 0),
        (1, 2, 5, 5, 3, 1, 0), (1, 3, 5, 7, 5, 2, 2),
    ]:
        about = dict(n=n, c=c, h=h, w=w, kernel=kernel, stride=stride, padding=pad)
        for tied in (False, True):
            case = g.case("maxpool", **about, tied=tied)
            x = g.normal(n, c, h, w, mean=-1.0)
            if tied:
                x = torch.round(x)  # few values: most windows have several maxima, the first wins; all negative windows meet the padding
            x.requires_grad_()
            y = F.max_pool2d(x, kernel, stride, pad)
            dy = g.normal(*y.shape)
            g.put(case, x=x.float(), dy=dy.float(), y=y, dx=differentiate(y, dy, x)[0])
        case = g.case("avgpool", **about)
        x = g.normal(n, c, h, w).requires_grad_()
        y = F.avg_pool2d(x, kernel, stride, pad)
        dy = g.normal(*y.shape)
        g.put(case, x=x.float(), dy=dy.float(), y=y, dx=differentiate(y, dy, x)[0])
    for n, c, h, w in [(2, 37, 8, 8), (5, 3, 1, 1), (1, 4, 7, 3)]:
        case = g.case("global_avgpool", n=n, c=c, h=h, w=w)
        x = g.normal(n, c, h, w).requires_grad_()
        y = x.mean((2, 3))
        dy = g.normal(*y.shape)
        g.put(case, x=x.float(), dy=dy.float(), y=y, dx=differentiate(y, dy, x)[0])


def head(g):
    for n, c, k, biased in [(1, 1, 1, True), (4, 37, 10, True), (5, 129, 33, False), (3, 8, 100, True)]:
        case = g.case("linear", n=n, c=c, k=k, bias=biased)
        x, w = g.normal(n, c), g.normal(k, c)
        b = g.normal(k) if biased else None
        leaves = [t.requires_grad_() for t in (x, w, b) if t is not None]
        y = F.linear(x, w, b)
        dy = g.normal(n, k)
        grads = differentiate(y, dy, *leaves)
        for name, t in zip(("x", "w", "bias"), f32(*leaves)):
            g.put(case, **{name: t})
        g.put(case, dy=dy.float(), y=y, **dict(zip(("dx", "dw", "dbias"), grads)))
    for n, classes, spread in [(1, 2, 1.0), (5, 10, 1.0), (32, 10, 5.0), (7, 100, 3.0), (4, 10, 1000.0), (3, 3, 1e-3)]:
        x = g.normal(n, classes, std=spread).requires_grad_()
        labels = torch.from_numpy(g.rng.integers(0, classes, n))
        loss = F.cross_entropy(x, labels)
        order = x.detach().argsort(1, descending=True)
        top1, top5 = (int((order[:, :k] == labels[:, None]).any(1).sum()) for k in (1, 5))
        case = g.case("softmax_xent", n=n, classes=classes, top1=top1, top5=top5)
        g.put(case, logits=x.float(), labels=labels.int(), probs=F.softmax(x, 1), loss=loss, dlogits=torch.autograd.grad(loss, x)[0])


def sgd(g):
    """Eight steps, the learning rate falling in between; the first `scales` elements are BN scales, some of them exactly 0 (sign(0) = 0)."""
    for momentum, decay, l1 in [(0.9, 0.02, 0.03), (0.9, 1e-4, 1e-4), (0.0, 0.1, 0.0), (0.5, 0.0, 0.25)]:
        steps, count, scale_count, rates = 8, 45, 17, [0.1] * 3 + [0.01] * 3 + [0.3] * 2
        case = g.case("sgd", steps=steps, count=count, scales=scale_count, momentum=momentum, weight_decay=decay, l1=l1, rates=rates)
        w = g.normal(count)
        w[:scale_count:5] = 0.0
        gradients = g.normal(steps, count)
        gradients[0, :scale_count:5] = 0.0
        gamma, rest = (torch.nn.Parameter(t.clone()) for t in (w[:scale_count], w[scale_count:]))
        opt = torch.optim.SGD([gamma, rest], lr=rates[0], momentum=momentum, weight_decay=decay)
        ws, vs = [], []
        for step in range(steps):
            opt.param_groups[0]["lr"] = rates[step]
            gamma.grad = gradients[step, :scale_count] + l1 * torch.sign(gamma.detach())
            rest.grad = gradients[step, scale_count:].clone()
            # without momentum torch keeps no buffer: v is then d itself
            d = [p.grad + decay * p.detach() for p in (gamma, rest)]
            opt.step()
            v = [opt.state[p].get("momentum_buffer") for p in (gamma, rest)]
            vs.append(torch.cat([x if b is None else b for x, b in zip(d, v)]).clone())
            ws.append(torch.cat([gamma.detach(), rest.detach()]).clone())
        g.put(case, w=w.float(), g=gradients.float(), v_after=torch.stack(vs), w_after=torch.stack(ws))


# ---- training -------------------------------------------------------------------------------------------------------

TRAIN = dict(depth=11, width=0.125, batch=32, lr=0.01, momentum=0.9, weight_decay=0.02, l1=0.03, images=160, steps=[1, 3, 5, 20])


def run_training(model, images, labels, dtype, layout, about):
    """States after the steps listed, and the losses: batches in file order, again from the front when the images are used up."""
    model = copy.deepcopy(model).to(dtype).to(memory_format=layout).train()
    opt = torch.optim.SGD(model.parameters(), lr=about["lr"], momentum=about["momentum"], weight_decay=about["weight_decay"])
    x = official.normalise(images, dtype).to(memory_format=layout)
    y = torch.from_numpy(labels.astype(np.int64))
    states, losses, b = [], [], about["batch"]
    for step in range(max(about["steps"])):
        at = step * b % len(x)
        losses.append(official.train_step(model, opt, x[at:at + b], y[at:at + b], about["l1"]))
        if step + 1 in about["steps"]:
            states.append({k: v.copy() for k, v in official.float_state(model).items()})
    return states, losses


def training(g, case, below, model, images, labels, about):
    """Stores a case of training: `CASE/images`, `CASE/labels`, the init and the states after `about["steps"]` as `below` + init/.., after1/.."""
    truth, losses = run_training(model, images, labels, torch.float64, torch.contiguous_format, about)
    deviations = []
    for layout in (torch.contiguous_format, torch.channels_last):
        # oneDNN of torch 2.15 writes out of bounds in the NHWC backward pass of convolutions with fewer than 8 channels
        with torch.backends.mkldnn.flags(enabled=layout == torch.contiguous_format or case == "train"):
            states, _ = run_training(model, images, labels, torch.float32, layout, about)
        deviations.append([official.deviation(a, b) for a, b in zip(states, truth)])
    nchw, nhwc = deviations
    g.cases[-1].update({"losses": losses, "torch_f32_nchw": nchw, "torch_f32_nhwc": nhwc,
                        "norms": [float(np.sqrt(sum((v ** 2).sum() for v in s.values()))) for s in truth]})
    g.put(case, images=images, labels=labels)
    for name, t in official.float_state(model).items():
        g.put(f"{below}init", **{name: t.astype(np.float32)})
        for steps, state in zip(about["steps"], truth):
            g.put(f"{below}after{steps}", **{name: (state[name] - t).astype(np.float32)})
    for steps, state in zip(about["steps"], truth):
        stored = {n: t + g.tensors[f"{below}after{steps}/{n}"].astype(np.float64) for n, t in official.float_state(model).items()}
        assert official.deviation(stored, state) < 3e-8, "the f32 differences are too coarse"
    print(f"{case}: PyTorch f32 from f64 after {about['steps']} steps: NCHW {nchw}, NHWC {nhwc}; loss {losses[0]:.4f} to {losses[-1]:.4f}")


def train():
    g = Golden("train", 4)
    model = official.VGG(official.scaled_cfg(TRAIN["depth"], TRAIN["width"]))
    model.initialise(g.rng)
    images, labels = official.synthetic_images(TRAIN["images"], 5)
    g.cases.append({"op": "train", "id": "train", **TRAIN})
    training(g, "train", "", model, images, labels, TRAIN)
    g.write()


RESIDUAL = [dict(model="preresnet20", width=0.25, batch=8, side=32), dict(model="resnet18", width=0.0625, batch=4, side=64)]
IMPORTED = [("preresnet20", 0.25, 32), ("resnet18", 0.0625, 48), ("resnet50", 0.046875, 48), ("resnet50-official", 0.03125, 48)]


def residual():
    g = Golden("residual", 9)
    print(f"residual: torchvision is {'there and agrees' if official_residual.check_names() else 'not there'}")
    for about in RESIDUAL:
        about = {**TRAIN, **about, "images": 3 * about["batch"], "steps": [1, 3]}
        del about["depth"]
        model = official_residual.build(about["model"], about["width"])
        official_residual.initialise(model, g.rng, model.scale)
        images, labels = official.synthetic_images(about["images"], 10, side=about["side"])
        case = g.case("train", **about)
        training(g, case, f"{case}/", model, images, labels, about)
    for name, width, side in IMPORTED:
        model = official_residual.build(name, width).eval()
        official_residual.initialise(model, g.rng, model.scale)
        random_norms(g, model)
        case = g.case("import", model=name, width=width, side=side)
        images = g.normal(2, 3, side, side)
        g.put(f"{case}/state", **{k: v.astype(np.float32) for k, v in official.float_state(model).items()})
        with torch.no_grad():
            g.put(case, images=images.float(), y=model.double()(images))
    g.write()


# ---- detector -------------------------------------------------------------------------------------------------------


def walk(rng, n, draws, step, decay, start=None):
    """Draws of a random walk whose steps shrink, from an all-equal state unless one is given."""
    v = np.full(n, 0.5) if start is None else np.array(start, dtype=np.float64)
    out = [v.astype(np.float32)]
    for t in range(1, draws):
        v = v + rng.standard_normal(n) * step * decay ** t
        out.append(v.astype(np.float32))
    return np.stack(out)


def swap(v, pairs):
    """`v` with the values at these index pairs exchanged: the mask changes in both places where one was kept and the other not."""
    v = v.copy()
    for a, b in pairs:
        v[a], v[b] = v[b], v[a]
    return v


def detector():
    g = Golden("detector", 6)
    rng = g.rng
    tenth40, tenth30 = np.arange(1, 41, dtype=np.float32) / 64, np.arange(1, 31, dtype=np.float32) / 64
    two = swap(tenth40, [(0, 39), (1, 38)])  # 4 of 40 differ at ratio 0.5: exactly one tenth
    three = swap(two, [(2, 37)])
    odd = tenth30.copy()
    odd[16:19] = odd[15]  # three more fall to the threshold: 3 of 30
    settle = walk(rng, 64, 12, 0.3, 0.6)
    quantised = np.round(walk(rng, 96, 24, 0.4, 0.75) * 64).astype(np.float32) / 64
    sparse = walk(rng, 80, 20, 0.5, 0.7)
    sparse = np.where(np.abs(sparse) < 0.45, np.copysign(np.float32(0), sparse), sparse)  # zeros of both signs: the threshold itself is 0
    jump = np.concatenate([settle, walk(rng, 64, 14, 0.4, 0.6, start=-settle[-1][::-1])])
    sequences = [
        ("settles from the all-equal initial state", [8, 16, 16, 24], walk(rng, 64, 30, 0.3, 0.8), [0.3, 0.5, 0.7], 5, 0.1),
        ("settles fast", [64], settle, [0.1, 0.3, 0.5, 0.7, 0.9], 5, 0.1),
        ("ties at the threshold, as 8-bit scales have them", [32, 64], quantised, [0.3, 0.5, 0.7], 5, 0.1),
        ("most scales exactly zero", [16, 64], sparse, [0.3, 0.5, 0.7], 5, 0.1),
        ("all scales equal for ever: empty masks, distance 0", [12], np.full((8, 12), 0.5, np.float32), [0.5], 5, 0.1),
        ("three all-equal draws, then a settled net", [40], np.stack([np.full(40, 0.5, np.float32)] * 3 + [tenth40] * 8), [0.3, 0.5, 0.95], 5, 0.1),
        ("exactly one tenth: window takes it, consecutive does not", [40], np.stack([tenth40] * 4 + [two] * 8), [0.5], 5, 0.1),
        ("exactly one tenth each time", [40], np.stack([tenth40, two] * 6), [0.5], 5, 0.1),
        ("just above one tenth", [40], np.stack([tenth40] * 4 + [three] * 8), [0.5], 5, 0.1),
        ("N*ratio in f64: 100*0.29 is 28.999999999999996", [100], walk(rng, 100, 8, 0.3, 0.5), [0.29, 0.57, 0.58], 5, 0.1),
        ("exactly one tenth by ties", [7, 23], np.stack([tenth30, odd] * 5), [0.5], 5, 0.1),
        ("settles, jumps, settles again", [32, 32], jump, [0.5], 5, 0.1),
        ("never settles", [64], rng.standard_normal((16, 64)).astype(np.float32), [0.3, 0.5, 0.7], 5, 0.1),
        ("one channel", [1], rng.standard_normal((7, 1)).astype(np.float32), [0.5], 5, 0.1),
        ("another queue length and eps", [64], settle, [0.5], 3, 0.25),
        ("VGG16 at width 0.25", [16, 16, 32, 32, 64, 64, 64] + [128] * 6, walk(rng, 1056, 14, 0.2, 0.65), [0.3, 0.5, 0.7], 5, 0.1),
    ]
    for what, layers, v, ratios, length, eps in sequences:
        assert sum(layers) == v.shape[1]
        runs = []
        case = g.case("detector", what=what, layers=layers, draws=len(v), length=length, eps=eps, runs=runs)
        g.put(case, scales=v)
        for i, ratio in enumerate(ratios):
            window, consecutive = official.Window(ratio, eps, length), official.Consecutive(ratio, str(eps), length)
            rows, masks = [], []
            for t in range(len(v)):
                rows.append((window.update(v[t]), consecutive.update(v[t])))
                masks.append(official.draw_mask(v[t], ratio))
            # dist[t, lag-1] to the mask `lag` draws earlier, -1 where there is none
            dist = [[official.distance(masks[t], masks[t - lag]) if t >= lag else -1.0 for lag in range(1, length)] for t in range(len(v))]
            first = [next((t for t, r in enumerate(rows) if r[j]), None) for j in (0, 1)]
            runs.append({"ratio": ratio, "window_first": first[0], "consecutive_first": first[1]})
            g.put(f"{case}/{i}", masks=np.stack(masks).astype(np.uint8), distances=np.array(dist), window=np.array([r[0] for r in rows], np.uint8),
                  consecutive=np.array([r[1] for r in rows], np.uint8))
        print(f"  {what}: first draw {[(r['ratio'], r['window_first'], r['consecutive_first']) for r in runs]}")
    g.write()


# ---- surgery --------------------------------------------------------------------------------------------------------


def random_norms(g, model):
    """Scales, shifts and running statistics as a trained net may have them, in f32."""
    with torch.no_grad():
        for bn in official.norms(model):
            c = bn.num_features
            bn.weight.copy_(g.normal(c, mean=0.5, std=0.4))
            bn.bias.copy_(g.normal(c, std=0.3))
            bn.running_mean.copy_(g.normal(c, std=0.3))
            bn.running_var.copy_((g.normal(c).abs() + 0.5).float())


def surgery():
    g = Golden("surgery", 8)
    model = official.VGG(official.scaled_cfg(11, 0.0625)).eval()
    model.initialise(g.rng)
    model = model.double()
    with torch.no_grad():
        model.classifier.bias.copy_(g.normal(10))
    random_norms(g, model)
    images = g.normal(4, 3, 32, 32)
    g.put("dense", **{k: v.astype(np.float32) for k, v in official.float_state(model).items()})
    g.put("surgery", images=images.float(), y=model(images))
    starved_layer = 3
    # the name says the case; `starved` replaces one layer's scales by tiny ones, so that all of them fall under the threshold
    for ratio, starved in [(0.3, False), (0.6, False), (0.5, True)]:
        if starved:
            bn = official.norms(model)[starved_layer]
            with torch.no_grad():
                bn.weight.copy_(g.normal(bn.num_features, std=1e-3))
            name = next(n for n, m in model.named_modules() if m is bn)
        masks = official.layer_masks(model, official.draw_mask(official.scales(model), ratio), min_channels=1)
        case = g.case("surgery", ratio=ratio, starved=name if starved else None, kept=[np.flatnonzero(m).tolist() for m in masks])
        if starved:
            g.put(case, starved_scales=bn.weight.float())
        small = official.prune(model, masks).eval()
        zeroed = official.VGG(official.scaled_cfg(11, 0.0625)).double().eval()
        zeroed.load_state_dict(model.state_dict())
        with torch.no_grad():
            for bn, m in zip(official.norms(zeroed), masks):
                bn.weight.mul_(torch.from_numpy(m))
                bn.bias.mul_(torch.from_numpy(m))
        y, yz = small(images), zeroed(images)
        assert torch.allclose(y, yz, rtol=1e-12, atol=1e-12), "the invariant of the surgery"
        g.put(case, y=y)
        g.put(f"{case}/pruned", **{k: v.astype(np.float32) for k, v in official.float_state(small).items()})
        print(f"  surgery p={ratio}: kept {[int(m.sum()) for m in masks]}")
    g.write()


def counts():
    rows = []
    for depth in official.CFGS:
        for width in (1.0, 0.5, 0.25, 0.125, 0.3):
            for classes in (10, 100):
                cfg = official.scaled_cfg(depth, width)
                model = official.VGG(cfg, classes)
                rows.append({"model": f"vgg{depth}", "width": width, "classes": classes,
                             "parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
                             "bn_channels": sum(bn.num_features for bn in official.norms(model)), "bn_layers": len(official.norms(model)),
                             "flops": official.flops(model), "widths": [c for c in cfg if c != "M"]})
    table = {(16, 10): (14724042, 4224, 627355658), (16, 100): (14770212, 4224, 627447908)}
    for r in rows:
        known = table.get((int(r["model"][3:]), r["classes"]))
        assert r["width"] != 1.0 or known is None or known == (r["parameters"], r["bn_channels"], r["flops"])
    (HERE / "counts.json").write_text("[\n" + ",\n".join(json.dumps(r) for r in rows) + "\n]\n")
    print(f"counts.json: {len(rows)} rows")


def operators():
    g = Golden("ops", 1)
    for part in (conv2d, batchnorm, elementwise, pools, head, sgd):
        part(g)
    g.write()


def main():
    files = {"ops": operators, "train": train, "residual": residual, "detector": detector, "surgery": surgery, "counts": counts}
    for name in sys.argv[1:] or files:
        files[name]()


if __name__ == "__main__":
    main()
