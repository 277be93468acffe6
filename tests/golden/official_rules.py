#!/usr/bin/env python3
"""The official search in PyTorch on real CIFAR-10: after which epoch the tickets emerge, under both criteria.

    pip install torch numpy
    python tests/golden/official_rules.py --data DIR [--seeds 1 2 3] [--epochs 26]      # a cifar-10-batches-bin folder

The yardstick for `earlybird search` on the same data: the official VGG and its init, SGD 0.9 with weight decay 1e-4 on everything, L1 1e-4 on the BN
scales, lr 0.1 (x0.1 at epochs 80 and 120), zero padding by 4 before normalisation, random crop, flip, shuffled, the last short batch kept. Masks
are drawn from the untrained net and after each epoch. An epoch in the output is the number of epochs trained when the rule first said yes.
"""

import argparse
import json
import os
import time

import numpy as np
import torch

import official


def augment(images, rng):
    """Zero pad 4, crop 32x32 at random, flip half of them. uint8 in and out."""
    n = len(images)
    padded = np.pad(images, ((0, 0), (0, 0), (4, 4), (4, 4)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (32, 32), axis=(2, 3))
    out = windows[np.arange(n), :, rng.integers(0, 9, n), rng.integers(0, 9, n)]
    flip = rng.random(n) < 0.5
    out[flip] = out[flip][..., ::-1]
    return out


def accuracy(model, images, labels, layout, batch=500):
    model.eval()
    right = 0
    with torch.no_grad():
        for i in range(0, len(images), batch):
            x = official.normalise(images[i:i + batch], torch.float32).contiguous(memory_format=layout)
            right += int((model(x).argmax(1).numpy() == labels[i:i + batch]).sum())
    return right / len(images)


def search(a, seed):
    """One run; returns the first epochs per criterion and ratio, and the test accuracy at the end."""
    torch.manual_seed(seed)
    rng = np.random.Generator(np.random.PCG64(seed))
    images, labels = official.read_cifar(a.data)
    test_images, test_labels = official.read_cifar(a.data, train=False)
    layout = torch.channels_last
    model = official.VGG(official.scaled_cfg(int(a.model[3:]), a.width)).to(memory_format=layout)
    opt = torch.optim.SGD(model.parameters(), lr=a.lr, momentum=0.9, weight_decay=1e-4)
    rules = {(name, p): rule(p) for p in a.prune for name, rule in (("window", official.Window), ("consecutive", official.Consecutive))}
    first, start = dict.fromkeys(rules), time.time()

    def draw(epochs):
        v = official.scales(model)
        for key, rule in rules.items():
            if rule.update(v) and first[key] is None:
                first[key] = epochs

    draw(0)
    for epoch in range(a.epochs):
        if epoch in (80, 120):
            opt.param_groups[0]["lr"] *= 0.1
        model.train()
        order, losses = rng.permutation(len(images)), []
        for i in range(0, len(order), a.batch_size):
            rows = order[i:i + a.batch_size]
            x = official.normalise(augment(images[rows], rng), torch.float32).contiguous(memory_format=layout)
            losses.append(official.train_step(model, opt, x, torch.from_numpy(labels[rows].astype(np.int64)), a.l1))
        draw(epoch + 1)
        last = {p: (float(rules["consecutive", p].distances[-1]), max(rules["window", p].distances)) for p in a.prune}
        print(f"seed {seed} epoch {epoch + 1:3}  loss {np.mean(losses):.4f}  test {accuracy(model, test_images, test_labels, layout):.4f}  "
              + "  ".join(f"p{p:.0%} last {d:.3f} widest {w:.3f}" for p, (d, w) in last.items()) + f"  {time.time() - start:.0f} s", flush=True)
    final = accuracy(model, test_images, test_labels, layout)
    return {"seed": seed, "epochs": a.epochs, "test_accuracy": final, **{f"{name} {p}": first[name, p] for name, p in rules}}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", required=True)
    p.add_argument("--model", default="vgg16")
    p.add_argument("--width", type=float, default=0.25)
    p.add_argument("--batch-size", type=int, default=128)
    p.add_argument("--lr", type=float, default=0.1)
    p.add_argument("--l1", type=float, default=1e-4)
    p.add_argument("--prune", type=float, nargs="+", default=[0.3, 0.5, 0.7])
    p.add_argument("--epochs", type=int, default=26)
    p.add_argument("--seeds", type=int, nargs="+", default=[1])
    p.add_argument("--threads", type=int, default=os.cpu_count())
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    results = [search(a, seed) for seed in a.seeds]
    for name in ("consecutive", "window"):
        for r in results:
            print(f"{name:12} seed {r['seed']}: " + ", ".join(f"p{q:.0%} after {r[f'{name} {q}'] or 'none by ' + str(a.epochs)}" for q in a.prune)
                  + f"; test accuracy {r['test_accuracy']:.3f}")
    print(json.dumps({"official_rules": results}))


if __name__ == "__main__":
    main()
