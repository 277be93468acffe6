#!/usr/bin/env python3
"""Trains the same net with `earlybird` and with PyTorch and says how far each is from PyTorch in float64.

    pip install torch numpy safetensors
    cargo build --release
    python tests/golden/parity.py                      # VGG16 at width 0.25, steps 1, 5, 20; about a minute; exit 1 if a deviation is too large
    python tests/golden/parity.py --data DIR           # the first images of a cifar-10-batches-bin folder instead of synthetic ones
    python tests/golden/parity.py --model preresnet20 --width 1 --steps 1 3
    python tests/golden/parity.py --model resnet18 --width 0.125 --side 64 --steps 1 3

f32 training is chaotic (a ReLU or max-pool tie that falls the other way), so f64 is the truth, and what is allowed is three times the deviation of
PyTorch's own f32 (the worse of NCHW and NHWC) plus 2e-6, 4e-5, 2e-3 after 1, 5, 20 steps. A deviation is the relative norm over all weights and
running statistics. Weight decay 0.02 and L1 0.03 are large, so that a wrong order of the optimiser's terms cannot hide. Data in file order, no
augmentation, normalised with the CIFAR constants. The init file is a plain PyTorch state dict as safetensors, `num_batches_tracked` included.
"""

import argparse
import json
import math
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np
import torch
from safetensors.numpy import load_file
from safetensors.torch import save_file

import official
import official_residual

ALLOWED = {1: 2e-6, 5: 4e-5, 20: 2e-3}


def allowance(steps):
    """The additive part, between the three stated steps on a log-log line."""
    known = sorted(ALLOWED.items())
    xs, ys = [math.log(k) for k, _ in known], [math.log(v) for _, v in known]
    return math.exp(float(np.interp(math.log(steps), xs, ys)))


def network(a):
    """The net in PyTorch."""
    if a.model.startswith("vgg"):
        return official.VGG(official.scaled_cfg(int(a.model[3:]), a.width))
    return official_residual.build(a.model, a.width)


def write_images(folder, images, labels, test_images, test_labels):
    """A data set of images that are not 32x32: PNG files, class by class in the order of names; so the images come back in that order, not in the given one."""
    from PIL import Image
    for part, x, y in (("train", images, labels), ("test", test_images, test_labels)):
        for i, (image, label) in enumerate(zip(x, y)):
            path = folder / part / str(label)
            path.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))).save(path / f"{i:06}.png")
    order = np.argsort(labels, kind="stable")
    return images[order], labels[order]


def run_torch(init, images, labels, a, dtype, layout):
    """State after each of `a.steps`, and the seconds it took."""
    model = network(a)
    model.load_state_dict(init)
    model = model.to(dtype).to(memory_format=layout).train()
    opt = torch.optim.SGD(model.parameters(), lr=a.lr, momentum=a.momentum, weight_decay=a.weight_decay)
    x = official.normalise(images, dtype, *a.constants).to(memory_format=layout)
    y = torch.from_numpy(labels.astype(np.int64))
    states, start = {}, time.time()
    for step in range(max(a.steps)):
        rows = slice(step * a.batch_size, (step + 1) * a.batch_size)
        official.train_step(model, opt, x[rows], y[rows], a.l1)
        if step + 1 in a.steps:
            states[step + 1] = {k: v.copy() for k, v in official.float_state(model).items()}
    return states, time.time() - start


def run_earlybird(folder, steps, a):
    """State dict that the program leaves after `steps` steps."""
    out = folder / f"run{steps}"
    command = [a.earlybird, "train", "--data", folder / "data", "--out", out, "--init", folder / "init.safetensors", "--no-augment", "--no-shuffle",
               "--steps", steps, "--batch-size", a.batch_size, "--lr", a.lr, "--momentum", a.momentum, "--weight-decay", a.weight_decay,
               "--l1", a.l1, "--model", a.model, "--width", a.width, "--device", a.device]
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\nexit code {done.returncode}\n{done.stdout}{done.stderr}")
    state = load_file(out / "model.safetensors")
    return {k: v.astype(np.float64) for k, v in state.items() if not k.endswith("num_batches_tracked")}


def main():
    root = pathlib.Path(__file__).resolve().parents[2]
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--earlybird", default=root / "target/release/earlybird", help="the binary; `none` runs PyTorch alone")
    p.add_argument("--data", help="cifar-10-batches-bin folder; default: synthetic images")
    p.add_argument("--model", default="vgg16", choices=[f"vgg{d}" for d in official.CFGS] + ["preresnet20", "preresnet56"] + list(official_residual.RESNETS))
    p.add_argument("--width", type=float, default=0.25)
    p.add_argument("--side", type=int, default=32, help="rows and columns of synthetic images; other than 32 wants Pillow")
    p.add_argument("--steps", type=int, nargs="+", default=[1, 5, 20])
    p.add_argument("--batch-size", type=int, default=32)
    p.add_argument("--lr", type=float, default=0.01)
    p.add_argument("--momentum", type=float, default=0.9)
    p.add_argument("--weight-decay", type=float, default=0.02)
    p.add_argument("--l1", type=float, default=0.03)
    p.add_argument("--device", default="cpu")
    p.add_argument("--seed", type=int, default=1)
    a = p.parse_args()

    rng = np.random.Generator(np.random.PCG64(a.seed))
    model = network(a)
    if a.model.startswith("vgg"):
        model.initialise(rng)
    else:
        official_residual.initialise(model, rng, model.scale)
    init = {k: v.clone() for k, v in model.state_dict().items()}
    # more images than the longest run wants, so that it ends inside the first epoch, before any mask is drawn; a multiple of five for the five files
    count = -(-(max(a.steps) + 2) * a.batch_size // 5) * 5
    if a.data:
        images, labels = official.read_cifar(a.data)
        if len(images) < count:
            sys.exit(f"{a.data} holds {len(images)} images, {count} are needed: fewer --steps or a smaller --batch-size")
        images, labels = images[:count], labels[:count]
    else:
        images, labels = official.synthetic_images(count, a.seed + 1, side=a.side)
    a.constants = ()
    if a.side != 32:
        # A folder of images is normalised by its own mean and deviation.
        v = images.astype(np.float64) / 255
        a.constants = (tuple(v.mean((0, 2, 3)).astype(np.float32)), tuple(v.std((0, 2, 3)).astype(np.float32)))
        tmp_data = tempfile.TemporaryDirectory()
        test = [np.flatnonzero(labels == c)[0] for c in np.unique(labels)]
        images, labels = write_images(pathlib.Path(tmp_data.name), images, labels, images[test], labels[test])

    truth, s = run_torch(init, images, labels, a, torch.float64, torch.contiguous_format)
    print(f"PyTorch {torch.__version__} f64: {s:.1f} s")
    f32 = {name: run_torch(init, images, labels, a, torch.float32, layout)[0]
           for name, layout in (("NCHW", torch.contiguous_format), ("NHWC", torch.channels_last))}

    rows, failed = [], False
    with tempfile.TemporaryDirectory() as tmp:
        folder = pathlib.Path(tmp)
        if a.side == 32:
            (folder / "data").mkdir()
            official.write_cifar(folder / "data", images, labels, images[:100], labels[:100])
        else:
            (folder / "data").symlink_to(tmp_data.name)
        save_file({k: v.contiguous() for k, v in init.items()}, folder / "init.safetensors")
        for steps in sorted(a.steps):
            row = {"steps": steps, **{name: official.deviation(f32[name][steps], truth[steps]) for name in f32}}
            row["allowed"] = 3 * max(row["NCHW"], row["NHWC"]) + allowance(steps)
            if str(a.earlybird) != "none":
                row["earlybird"] = official.deviation(run_earlybird(folder, steps, a), truth[steps])
                failed |= not row["earlybird"] <= row["allowed"]
            rows.append(row)

    print(f"{a.model} width {a.width}, batch {a.batch_size}, {'real' if a.data else 'synthetic'} images: relative deviation from PyTorch f64")
    print("steps   torch NCHW   torch NHWC      allowed    earlybird")
    for r in rows:
        print(f"{r['steps']:5}   {r['NCHW']:10.2e}   {r['NHWC']:10.2e}   {r['allowed']:10.2e}   {r.get('earlybird', math.nan):10.2e}")
    print(json.dumps({"parity": rows, "passed": not failed}))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
