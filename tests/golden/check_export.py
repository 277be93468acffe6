#!/usr/bin/env python3
"""A network goes from `earlybird` to plain PyTorch: `export --torch`, its loader, and the same answers on the same images.

    pip install torch numpy safetensors
    cargo build --release
    python tests/golden/check_export.py                # exit 1 if something differs

Trains a narrow VGG for a few epochs with a detector that settles at once, cuts the ticket, and exports three files: the trained pruned net, the
ticket's dense net, and the net that `prune` cut from it. Each export is loaded in PyTorch with the loader that was written beside it and must hold
the file's very tensors, load strictly into the official VGG of those widths with logits equal to 1e-5 of the largest, and give the loss and hits of
`earlybird eval` on a test set (loss to 1e-5). The cut must also equal `official.prune` of the dense net.

Then PreResNet-20, ResNet-18 and ResNet-50, narrow, each cut under both policies (channel gathers in front of blocks, or a narrower stream): the loader's logits are those of
`earlybird eval --logits` to 1e-4 of the largest, it trains, and its parameters are as many as the cut net has.
"""

import argparse
import importlib.util
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import torch
from safetensors.torch import load_file

import official


class Checks:
    """Prints each check and remembers failures."""

    def __init__(self):
        self.failed = 0

    def __call__(self, good, what):
        print(f"{'ok  ' if good else 'FAIL'} {what}")
        self.failed += not good


def command(a, *arguments):
    done = subprocess.run([str(a.earlybird), *map(str, arguments)], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"earlybird {' '.join(map(str, arguments))}\nexit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def weights(path):
    """Parameters and statistics of a file, without momenta and the like."""
    keep = ("feature.", "classifier.")
    return {k: v for k, v in load_file(path).items() if k.startswith(keep) and k.endswith(("weight", "bias", "running_mean", "running_var"))}


def official_net(state):
    """The official VGG (11 layers) of the widths found in a state dict, loaded strictly but for BN's batch counters."""
    convs = iter(v.shape[0] for k, v in sorted(state.items(), key=lambda kv: int((kv[0].split(".") + ["0"])[1]) if kv[0][0] == "f" else 0) if v.dim() == 4)
    model = official.VGG([c if c == "M" else next(convs) for c in official.CFGS[11]], state["classifier.weight"].shape[0])
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and all(name.endswith("num_batches_tracked") for name in missing), (missing, unexpected)
    return model.eval()


def same(got, want):
    return got.shape == want.shape and float((got - want).abs().max()) <= 1e-5 * float(want.abs().max())


def load_export(folder, name):
    """The network that the loader beside the export builds."""
    spec = importlib.util.spec_from_file_location(f"load_{name}", folder / "load.py")
    loader = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loader)
    return loader.load()


RESIDUAL = [("preresnet20", 0.25), ("resnet18", 0.125), ("resnet50", 0.125)]


def residual(a, check, folder, x):
    """Pruned residual nets under both policies."""
    for model, width in RESIDUAL:
        run = folder / model
        command(a, "search", "--data", folder / "data", "--model", model, "--width", width, "--device", "cpu", "--batch-size", 50, "--lr", 0.05, "--epochs", 4,
                "--prune", 0.5, "--eps", 1, "--queue", 2, "--out", run)
        for policy in ("select", "group"):
            name, out = f"{model}-{policy}", folder / f"export-{model}-{policy}"
            cut = folder / f"{name}.safetensors"
            command(a, "prune", run / "ticket-p50.safetensors", "--surgery", policy, "--out", cut)
            command(a, "export", cut, "--torch", "--out", out)
            command(a, "eval", cut, "--data", folder / "data", "--device", "cpu", "--logits", folder / "logits.safetensors")
            net, want = load_export(out, name), load_file(folder / "logits.safetensors")["logits"]
            with torch.no_grad():
                off = float((net(x) - want).abs().max() / want.abs().max())
            nodes = json.loads((out / "network.json").read_text())["nodes"]
            gathers = sum(node["op"] == "select" for node in nodes)
            check(off <= 1e-4, f"{name}: logits within {off:.1e} of the largest; {gathers} gathers")
            check((gathers > 0) == (policy == "select"), f"{name}: gathers where the stream keeps its width, and nowhere else")
            told = json.loads([line for line in command(a, "info", "--file", cut, "--json").splitlines() if line.startswith("{")][-1])
            check(told["parameters"] == sum(p.numel() for p in net.parameters()), f"{name}: {told['parameters']} parameters")
            net.train()
            with torch.enable_grad():
                net(x[:8]).square().mean().backward()
            check(all(p.grad is not None for p in net.parameters()), f"{name}: trains in PyTorch")


def main():
    root = pathlib.Path(__file__).resolve().parents[2]
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--earlybird", default=root / "target/release/earlybird")
    a = p.parse_args()
    check = Checks()
    with tempfile.TemporaryDirectory() as tmp, torch.no_grad():
        folder = pathlib.Path(tmp)
        (folder / "data").mkdir()
        images, labels = official.synthetic_images(500, 1)
        test_images, test_labels = official.synthetic_images(150, 2)
        official.write_cifar(folder / "data", images, labels, test_images, test_labels)
        x, y = official.normalise(test_images, torch.float32), torch.from_numpy(test_labels.astype(np.int64))
        run = folder / "run"
        command(a, "train", "--data", folder / "data", "--model", "vgg11", "--width", 0.125, "--device", "cpu", "--batch-size", 50, "--lr", 0.05,
                "--epochs", 6, "--prune", 0.5, "--eps", 1, "--queue", 2, "--out", run)
        ticket = run / "ticket-p50.safetensors"
        command(a, "prune", ticket, "--out", folder / "pruned.safetensors")

        for name, path in (("trained", run / "model.safetensors"), ("dense", ticket), ("cut", folder / "pruned.safetensors")):
            out = folder / f"export-{name}"
            command(a, "export", path, "--torch", "--out", out)
            logits = load_export(out, name)(x)
            exported, original = weights(out / "weights.safetensors"), weights(path)
            equal = exported.keys() == original.keys() and all(torch.equal(exported[k], original[k]) for k in original)
            check(equal, f"{name}: the export holds the file's {len(original)} tensors")
            net = official_net(exported)
            widths = [b.num_features for b in official.norms(net)]
            check(same(logits, net(x)), f"{name}: the loader's logits are those of the official VGG, channels {widths}")
            printed = command(a, "eval", path, "--data", folder / "data", "--device", "cpu", "--json")
            told = json.loads([line for line in printed.splitlines() if line.startswith("{")][-1])
            loss = float(torch.nn.functional.cross_entropy(logits.double(), y))
            hits = int((logits.argmax(1) == y).sum())
            check(abs(told["loss"] - loss) <= 1e-5 * loss, f"{name}: loss {told['loss']:.7f} in earlybird, {loss:.7f} in PyTorch")
            check(told["correct"] == hits, f"{name}: {told['correct']} and {hits} of {len(y)} right")
            if name == "dense":
                dense = net
            if name == "cut":
                masks = official.layer_masks(dense, official.draw_mask(official.scales(dense), 0.5), min_channels=1)
                check(same(logits, official.prune(dense, masks).eval()(x)), "cut: the same net as official surgery of the dense one makes")
        residual(a, check, folder, x)
    sys.exit(1 if check.failed else 0)


if __name__ == "__main__":
    main()
