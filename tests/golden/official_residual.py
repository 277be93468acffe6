"""PreResNet and ResNet, written from the description of the official code and with torchvision's names, at any width.

As `official.py`, this knows nothing of `earlybird`; what is shared (initialisation of convolutions, the optimiser's step, counts) is there. PreResNet is
RICE-EIC/Early-Bird-Tickets' models/preresnet.py without its `select` layers, which gather all channels until something is pruned. ResNet is torchvision's
(`check_names` compares with it where it is installed), with `bias=True` on the down-sample convolutions as the official ResNet-50 has them.
"""

import math

import torch
from torch import nn

from official import normal_init


def scaled(channels, width):
    """A layer's channels at `width`: rounded half up, at least 1."""
    return max(1, math.floor(channels * width + 0.5))


def initialise(model, rng, scale, linear=None):
    """Conv N(0, sqrt(2/(k*k*Cout))), BN scale `scale` and shift 0, other weights and biases U(-1/sqrt(fan in), 1/sqrt(fan in)), from `rng` (numpy)."""
    for m in model.modules():
        if isinstance(m, nn.Conv2d):
            normal_init(m, rng)
        if isinstance(m, nn.BatchNorm2d):
            nn.init.constant_(m.weight, scale)
            nn.init.zeros_(m.bias)
        if isinstance(m, (nn.Conv2d, nn.Linear)) and m.bias is not None:
            bound = 1 / math.sqrt(m.weight[0].numel())
            with torch.no_grad():
                for t in [m.bias] + ([m.weight] if isinstance(m, nn.Linear) else []):
                    t.copy_(torch.from_numpy(rng.uniform(-bound, bound, tuple(t.shape))))


class PreBottleneck(nn.Module):
    """BN, ReLU, 1x1; BN, ReLU, 3x3; BN, ReLU, 1x1; plus the raw input, through a 1x1 convolution in the first block of a stage."""

    def __init__(self, c, inner, outer, stride, first):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(c), nn.Conv2d(c, inner, 1, bias=False)
        self.bn2, self.conv2 = nn.BatchNorm2d(inner), nn.Conv2d(inner, inner, 3, stride, 1, bias=False)
        self.bn3, self.conv3 = nn.BatchNorm2d(inner), nn.Conv2d(inner, outer, 1, bias=False)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = nn.Sequential(nn.Conv2d(c, outer, 1, stride, bias=False)) if first else None

    def forward(self, x):
        y = self.conv1(self.relu(self.bn1(x)))
        y = self.conv2(self.relu(self.bn2(y)))
        y = self.conv3(self.relu(self.bn3(y)))
        return y + (x if self.downsample is None else self.downsample(x))


class PreResNet(nn.Module):
    """Depth 9n+2 for 32x32 images."""

    scale = 0.5

    def __init__(self, depth, width=1.0, classes=10):
        super().__init__()
        c = scaled(16, width)
        self.conv1 = nn.Conv2d(3, c, 3, padding=1, bias=False)
        for stage, planes in enumerate((16, 32, 64)):
            blocks = []
            for block in range((depth - 2) // 9):
                inner, outer = scaled(planes, width), scaled(4 * planes, width)
                blocks.append(PreBottleneck(c, inner, outer, 2 if stage and not block else 1, not block))
                c = outer
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.bn, self.relu, self.fc = nn.BatchNorm2d(c), nn.ReLU(inplace=True), nn.Linear(c, classes)

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(self.conv1(x))))
        return self.fc(self.relu(self.bn(x)).mean((2, 3)))


class Block(nn.Module):
    """Basic (two 3x3) or bottleneck (1x1, 3x3 with the stride, 1x1) with a ReLU behind the sum."""

    def __init__(self, c, inner, outer, stride, bottleneck, project, bias):
        super().__init__()
        convs = [(inner, 1, 1), (inner, 3, stride), (outer, 1, 1)] if bottleneck else [(inner, 3, stride), (outer, 3, 1)]
        self.count = len(convs)
        self.relu = nn.ReLU(inplace=True)
        entered = c
        for i, (k, kernel, step) in enumerate(convs, 1):
            self.add_module(f"conv{i}", nn.Conv2d(c, k, kernel, step, kernel // 2, bias=False))
            self.add_module(f"bn{i}", nn.BatchNorm2d(k))
            c = k
        # last, so that its norm comes last in `modules()`, as masks have it
        self.downsample = nn.Sequential(nn.Conv2d(entered, outer, 1, stride, bias=bias), nn.BatchNorm2d(outer)) if project else None

    def forward(self, x):
        y = x
        for i in range(1, self.count + 1):
            y = self.get_submodule(f"bn{i}")(self.get_submodule(f"conv{i}")(y))
            y = self.relu(y) if i < self.count else y
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


RESNETS = {"resnet18": ((2, 2, 2, 2), False), "resnet34": ((3, 4, 6, 3), False), "resnet50": ((3, 4, 6, 3), True),
           "resnet50-official": ((3, 4, 6, 3), True), "resnet101": ((3, 4, 23, 3), True)}


class ResNet(nn.Module):
    """torchvision's layout and names; a down-sample convolution wherever the full-width net has one."""

    scale = 1.0

    def __init__(self, name, width=1.0, classes=10):
        super().__init__()
        blocks, bottleneck = RESNETS[name]
        c, before = scaled(64, width), 64
        self.conv1, self.bn1 = nn.Conv2d(3, c, 7, 2, 3, bias=False), nn.BatchNorm2d(c)
        self.relu, self.maxpool = nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)
        for stage, planes in enumerate((64, 128, 256, 512)):
            out, layers = planes * (4 if bottleneck else 1), []
            for block in range(blocks[stage]):
                stride = 2 if stage and not block else 1
                inner, outer = scaled(planes, width), scaled(out, width)
                layers.append(Block(c, inner, outer, stride, bottleneck, stride != 1 or before != out, name.endswith("-official")))
                c, before = outer, out
            self.add_module(f"layer{stage + 1}", nn.Sequential(*layers))
        self.fc = nn.Linear(c, classes)

    def forward(self, x):
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        return self.fc(self.layer4(self.layer3(self.layer2(self.layer1(x)))).mean((2, 3)))


def build(name, width=1.0, classes=10):
    """A net by the name that `earlybird --model` takes."""
    return PreResNet(int(name[9:]), width, classes) if name.startswith("preresnet") else ResNet(name, width, classes)


def check_names():
    """This ResNet against torchvision's own, where that is installed: the same names, shapes and answers. Says whether it was there."""
    try:
        from torchvision import models
    except ImportError:
        return False
    for name in ("resnet18", "resnet50"):
        theirs, ours = models.get_model(name).eval(), build(name, classes=1000).eval()
        ours.load_state_dict(theirs.state_dict())
        x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            assert torch.allclose(ours(x), theirs(x), atol=1e-5), name
    return True
