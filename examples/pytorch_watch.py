#!/usr/bin/env python3
"""A PyTorch model finds its Early-Bird ticket: its BN scales go to `earlybird watch`, the ticket comes back, and the model is cut in PyTorch.

    pip install torch
    cargo build --release
    python examples/pytorch_watch.py [--earlybird target/release/earlybird]

The training is PyTorch's own. After every epoch one JSON line with the scales goes out and one with the distance comes in; on the line at which the ticket emerges it carries the kept
channels of each layer. Exit code 1 where no ticket emerges or the cut network does not learn.
"""

import argparse
import json
import subprocess
import sys
import torch
from torch import nn


def network(widths):
    """Convolution, batchnorm, ReLU, pool; times three."""
    layers, channels = [], 1
    for width in widths:
        layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)]
        nn.init.constant_(layers[-3].weight, 0.5)  # as in the paper's code: all channels start alike
        channels = width
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels, 4))


def images(count, generator):
    """Noisy 8x8 images of a bar in one of four directions."""
    lines = torch.stack([torch.eye(8), torch.eye(8).flip(1), torch.zeros(8, 8), torch.zeros(8, 8)])
    lines[2][3:5, :] = 1
    lines[3][:, 3:5] = 1
    labels = torch.randint(4, (count,), generator=generator)
    return (lines[labels] + 0.7 * torch.randn(count, 8, 8, generator=generator)).unsqueeze(1), labels


def norms(model):
    return {name: module for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)}


def train_epoch(model, optimiser, x, y):
    model.train()
    for batch in torch.randperm(len(x)).split(64):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
        for norm in norms(model).values():
            norm.weight.grad += 1e-3 * norm.weight.detach().sign()  # L1 on the scales is what makes channels differ
        optimiser.step()


@torch.no_grad()
def accuracy(model, x, y):
    model.eval()
    return (model(x).argmax(1) == y).float().mean().item()


def cut(model, kept):
    """The same network with only the kept channels. `kept` has at least one channel of each layer here."""
    kept = {name: torch.tensor(channels) for name, channels in kept.items()}
    small = network([len(channels) for channels in kept.values()])
    before = torch.arange(1)
    for index in range(0, len(model) - 2, 4):
        conv, norm, new_conv, new_norm = model[index], model[index + 1], small[index], small[index + 1]
        channels = kept[str(index + 1)]
        new_conv.weight.data = conv.weight.data[channels][:, before].clone()
        for name in ["weight", "bias", "running_mean", "running_var"]:
            getattr(new_norm, name).data = getattr(norm, name).data[channels].clone()
        before = channels
    small[-1].weight.data, small[-1].bias.data = model[-1].weight.data[:, before].clone(), model[-1].bias.data.clone()
    return small


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--earlybird", default="target/release/earlybird")
    given = parser.parse_args()
    torch.manual_seed(1)
    generator = torch.Generator().manual_seed(1)
    (x, y), (test_x, test_y) = images(1500, generator), images(500, generator)
    model, epochs = network([16, 32, 32]), 20
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    command = [given.earlybird, "watch", "-", "--prune", "0.5", "--queue", "3"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as watch:
        for epoch in range(1, epochs + 1):
            train_epoch(model, optimiser, x, y)
            scales = {name: norm.weight.tolist() for name, norm in norms(model).items()}
            print(json.dumps({"epoch": epoch, "scales": scales}), file=watch.stdin, flush=True)
            seen = json.loads(watch.stdout.readline())["masks"][0]
            print(f"epoch {epoch:2}  test {accuracy(model, test_x, test_y):.1%}  mask distance {seen['distance']}")
            if seen["ticket"]:
                break
        else:
            sys.exit("no ticket emerged")
    sizes = [sum(p.numel() for p in model.parameters())]
    model = cut(model, seen["ticket"])
    sizes.append(sum(p.numel() for p in model.parameters()))
    print(f"ticket after {epoch} epochs: {seen['kept']} of {seen['channels']} channels, {sizes[0]} -> {sizes[1]} parameters")
    print(f"right after the cut: test {accuracy(model, test_x, test_y):.1%}")
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for _ in range(5):
        train_epoch(model, optimiser, x, y)
    final = accuracy(model, test_x, test_y)
    print(f"after five more epochs: test {final:.1%}")
    sys.exit(0 if final > 0.9 else 1)


if __name__ == "__main__":
    main()
