#!/usr/bin/env python3
"""torchvision's ResNets go into `earlybird` and answer the same: `.pth`, the README's line of Python, `--init` and `eval --logits`.

    pip install torch torchvision numpy safetensors
    cargo build --release
    python tests/golden/check_import.py                # exit 1 if something differs; a minute

Random weights and running statistics, 10 classes, 32x32 images. Each net is saved as `torch.save` saves it (plain, under `nn.DataParallel`, as a checkpoint like the
official code's), made a safetensors file by the line in the README, and evaluated; logits agree to 1e-4 of the largest. `train --init` starts from it, too, and a pickle
or the weights of another net are refused with exit code 2.
"""

import argparse
import pathlib
import re
import subprocess
import sys
import tempfile

import numpy as np
import torch
from safetensors.torch import load_file
from torchvision import models

import official
import official_residual
from check_export import Checks, command


def convert_line(root):
    """The line of Python in the README that makes x.safetensors of x.pth."""
    found = re.search(r'python -c "(import torch, safetensors[^"]*)"', (root / "README.md").read_text())
    assert found, "the README has lost its line"
    return found.group(1)


def random_norms(model, generator):
    with torch.no_grad():
        for bn in official.norms(model):
            bn.weight.normal_(0.5, 0.4, generator=generator)
            bn.bias.normal_(0, 0.3, generator=generator)
            bn.running_mean.normal_(0, 0.3, generator=generator)
            bn.running_var.uniform_(0.5, 1.5, generator=generator)


def main():
    root = pathlib.Path(__file__).resolve().parents[2]
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--earlybird", default=root / "target/release/earlybird")
    a = p.parse_args()
    check, line = Checks(), convert_line(root)
    with tempfile.TemporaryDirectory() as tmp, torch.no_grad():
        folder = pathlib.Path(tmp)
        (folder / "data").mkdir()
        images, labels = official.synthetic_images(10, 1)
        official.write_cifar(folder / "data", images, labels, images, labels)
        x = official.normalise(images, torch.float32)
        generator = torch.Generator().manual_seed(1)
        wrap = {
            "resnet18": lambda state: state,
            "resnet50": lambda state: {f"module.{k}": v for k, v in state.items()},
            "preresnet20": lambda state: {"epoch": 3, "state_dict": state, "best_prec1": 0.5},
        }
        for name, save in wrap.items():
            model = (official_residual.build(name) if name.startswith("pre") else models.get_model(name, num_classes=10)).eval()
            random_norms(model, generator)
            torch.save(save(model.state_dict()), folder / "x.pth")
            subprocess.run([sys.executable, "-c", line], cwd=folder, check=True)
            command(a, "eval", folder / "x.safetensors", "--model", name, "--data", folder / "data", "--device", "cpu", "--logits", folder / "out.safetensors")
            got, want = load_file(folder / "out.safetensors")["logits"], model(x)
            off = float((got - want).abs().max() / want.abs().max())
            check(off <= 1e-4, f"{name}: logits of {len(x)} images within {off:.1e} of the largest")
            command(a, "train", "--data", folder / "data", "--model", name, "--device", "cpu", "--init", folder / "x.safetensors", "--steps", 1, "--batch-size", 4,
                    "--lr", 0.1, "--dense", "--out", folder / f"run-{name}")
            started = load_file(folder / f"run-{name}" / "init.safetensors")
            same = all(torch.equal(started[k], v) for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked"))
            check(same, f"{name}: --init starts from these very tensors")
        for what, file, model in (("a pickle", "x.pth", "preresnet20"), ("another net", "x.safetensors", "resnet18")):
            done = subprocess.run([str(a.earlybird), "eval", str(folder / file), "--model", model, "--data", str(folder / "data")], capture_output=True, text=True)
            check(done.returncode == 2 and file in done.stderr, f"{what} is refused: {done.stderr.strip()}")
    sys.exit(1 if check.failed else 0)


if __name__ == "__main__":
    main()
