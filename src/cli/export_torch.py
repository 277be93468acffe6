"""Rebuilds a network that `earlybird export --torch` wrote, in plain PyTorch.

    from load import load
    model = load()            # torch.nn.Module in eval mode; images are NCHW, normalised as in training

Needs torch and safetensors. network.json holds the nodes, weights.safetensors the parameters under PyTorch names.
"""

import json
import os

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F


class Select(nn.Module):
    """Gather of channels."""

    def __init__(self, channels):
        super().__init__()
        self.register_buffer("indexes", torch.tensor(channels), persistent=False)

    def forward(self, x):
        return x.index_select(1, self.indexes)


class Network(nn.Module):
    """Runs the nodes in order; modules are registered under the nodes' names, so that parameter names agree."""

    def __init__(self, nodes):
        super().__init__()
        self.nodes = nodes
        channels = []
        for node in nodes:
            shape, module = self._make(node, [channels[i] for i in node["inputs"]])
            channels.append(shape)
            if module is not None:
                self._register(node["name"], module)

    def _register(self, name, module):
        parent, *path = self, *name.split(".")
        for part in path[:-1]:
            if part not in parent._modules:
                parent.add_module(part, nn.Module())
            parent = parent._modules[part]
        parent.add_module(path[-1], module)

    @staticmethod
    def _make(node, inputs):
        """((channels, height, width) of the output, module or None)"""
        op = node["op"]
        if op == "input":
            return (node["c"], node["h"], node["w"]), None
        c, h, w = inputs[0]
        if op == "conv2d":
            k, kernel, stride, padding = node["out_channels"], node["kernel"], node["stride"], node["padding"]
            out = [(size + 2 * p - r) // s + 1 for size, r, s, p in zip((h, w), kernel, stride, padding)]
            return (k, *out), nn.Conv2d(c, k, kernel, stride, padding, bias=node["bias"])
        if op == "batchnorm":
            return (c, h, w), nn.BatchNorm2d(c, eps=node["eps"], momentum=node["momentum"])
        if op in ("maxpool", "avgpool"):
            kernel, stride, padding = node["kernel"], node["stride"], node["padding"]
            return (c, *((size + 2 * padding - kernel) // stride + 1 for size in (h, w))), None
        if op == "global_avgpool":
            return (c, 1, 1), None
        if op == "linear":
            return (node["out_features"], 1, 1), nn.Linear(c * h * w, node["out_features"], bias=node["bias"])
        if op == "select":
            return (len(node["channels"]), h, w), Select(node["channels"])
        if op in ("relu", "add"):
            return (c, h, w), None
        raise ValueError(f"unknown operator {op}")

    def forward(self, x):
        values = []
        for node in self.nodes:
            op, inputs = node["op"], [values[i] for i in node["inputs"]]
            if op == "input":
                y = x
            elif op == "relu":
                y = F.relu(inputs[0])
            elif op == "add":
                y = inputs[0] + inputs[1]
            elif op == "maxpool":
                y = F.max_pool2d(inputs[0], node["kernel"], node["stride"], node["padding"])
            elif op == "avgpool":
                y = F.avg_pool2d(inputs[0], node["kernel"], node["stride"], node["padding"])
            elif op == "global_avgpool":
                y = inputs[0].mean((2, 3), keepdim=True)
            elif op == "linear":
                y = self.get_submodule(node["name"])(inputs[0].flatten(1))
            else:
                y = self.get_submodule(node["name"])(inputs[0])
            values.append(y)
        return values[-1].flatten(1)


def load(folder=os.path.dirname(os.path.abspath(__file__))):
    """The network with its weights, in eval mode."""
    with open(os.path.join(folder, "network.json"), encoding="utf-8") as file:
        model = Network(json.load(file)["nodes"])
    model.load_state_dict(load_file(os.path.join(folder, "weights.safetensors")))
    return model.eval()


if __name__ == "__main__":
    print(load())
