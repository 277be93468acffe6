#!/usr/bin/env python3
"""A ticket of `earlybird` lives on in plain PyTorch: cut, export, load, train on.

    pip install torch numpy safetensors
    earlybird search --config examples/digits.toml --out runs/search
    python examples/pytorch_ticket.py runs/search/ticket-p50.safetensors [--earlybird target/release/earlybird]

`earlybird prune` cuts the ticket, `earlybird export --torch` writes weights, network and a small loader, and from there on only torch and safetensors are needed. The images of
this example are random: it shows the way, not an accuracy. Exit code 1 where the loaded network does not learn them.
"""

import argparse
import importlib.util
import json
import pathlib
import subprocess
import tempfile

import torch
from safetensors import safe_open


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ticket", type=pathlib.Path)
    parser.add_argument("--earlybird", default="target/release/earlybird")
    given = parser.parse_args()

    # A ticket is a safetensors file: the dense network's weights at the draw, and in the metadata which channels stay.
    with safe_open(given.ticket, "pt") as file:
        info = json.loads(file.metadata()["earlybird.ticket"])
        kept = json.loads(file.metadata()["earlybird.kept"])
    print(f"ticket of ratio {info['ratio']}, drawn after {info['epoch']} epochs")
    print("kept channels: " + ", ".join(f"{layer} {len(channels)}" for layer, channels in kept.items()))

    with tempfile.TemporaryDirectory() as folder:
        pruned, exported = pathlib.Path(folder, "pruned.safetensors"), pathlib.Path(folder, "exported")
        subprocess.run([given.earlybird, "prune", given.ticket, "--out", pruned], check=True, stdout=subprocess.DEVNULL)
        subprocess.run([given.earlybird, "export", pruned, "--torch", "--out", exported], check=True, stdout=subprocess.DEVNULL)
        spec = importlib.util.spec_from_file_location("load", exported / "load.py")
        loader = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(loader)
        model = loader.load()
        first = json.loads((exported / "network.json").read_text())["nodes"][0]

    print(f"a torch.nn.Module of {sum(p.numel() for p in model.parameters())} parameters")
    torch.manual_seed(1)
    images = torch.randn(32, first["c"], first["h"], first["w"])
    labels = torch.arange(32) % model(images).shape[1]
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    model.train()
    losses = []
    for _ in range(10):
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    print(f"loss on 32 random images: {losses[0]:.3f} -> {losses[-1]:.3f} in 10 steps")
    raise SystemExit(0 if losses[-1] < losses[0] else 1)


if __name__ == "__main__":
    main()
