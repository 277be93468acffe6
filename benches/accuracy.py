"""Searches in several precisions from the same initial weights, in several orders of the data: do 8 bits find the tickets of f32?

For each precision and order: the loss, the epochs at which tickets emerge (by the rule of `--criterion consecutive`, five distances between masks one epoch apart within 0.1; and by the
stricter one of the official code, five masks within 0.1 of the newest), means over the orders, and the overlap of its masks with those of every other run, so that int8 against f32 stands
beside f32 against f32 of different orders.

    python benches/accuracy.py --earlybird target/release/earlybird --data DIR --out DIR [--epochs 22] [--orders 1 2 3] [--precisions f32 int8 eb8]

Runs that are there already are not repeated. Needs numpy. Overlap of two masks: shared kept channels over channels that either keeps.
"""

import argparse
import csv
import itertools
import json
import pathlib
import struct
import subprocess
import time

import numpy as np

RATIOS = (0.3, 0.5, 0.7)


def masks(path):
    """{(epoch, ratio): bits} of a run's `masks.bin`."""
    data = path.read_bytes()
    channels, count = struct.unpack_from("<II", data, 8)
    ratios = struct.unpack_from(f"<{count}d", data, 16)
    words = (channels + 63) // 64
    found, at = {}, 16 + 8 * count
    while at + 24 + 8 * words <= len(data):
        _, epoch, ratio, _ = struct.unpack_from("<QdIf", data, at)
        raw = np.frombuffer(data, np.uint8, 8 * words, at + 24)
        found[epoch, ratios[ratio]] = np.unpackbits(raw, bitorder="little")[:channels].astype(bool)
        at += 24 + 8 * words
    return found


def settling(drawn, ratio, queue=5):
    """(epoch, largest distance of its mask to the `queue` - 1 before it), epoch by epoch."""
    epochs = sorted(epoch for epoch, r in drawn if r == ratio)
    for i in range(queue - 1, len(epochs)):
        last = [drawn[epoch, ratio] for epoch in epochs[i - queue + 1 : i + 1]]
        if last[0].any():
            yield epochs[i], max((last[-1] ^ mask).mean() for mask in last[:-1])


def emerged(drawn, ratio, eps=0.1):
    """The first epoch whose mask is within `eps` of those before it."""
    return next((epoch for epoch, distance in settling(drawn, ratio) if distance <= eps), None)


def consecutive(drawn, ratio, eps=0.1, queue=5):
    """The first epoch whose mask ends a row of `queue` distances within `eps` between masks one epoch apart."""
    epochs, settled = sorted(epoch for epoch, r in drawn if r == ratio), 0
    for before, epoch in zip(epochs, epochs[1:]):
        settled = settled + 1 if (drawn[before, ratio] ^ drawn[epoch, ratio]).mean() < eps else 0
        if settled >= queue:
            return epoch
    return None


def overlap(a, b):
    return (a & b).sum() / (a | b).sum()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--earlybird", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--epochs", type=int, default=22)
    parser.add_argument("--orders", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--precisions", nargs="+", default=["f32", "int8"])
    parser.add_argument("--model", default="vgg16")
    parser.add_argument("--width", default="0.25")
    parser.add_argument("--more", nargs="*", default=[], help="more flags for int8 runs, without their dashes: master-weights=f32")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    init = args.out / "init.safetensors"
    runs = {}
    for precision, order in itertools.product(args.precisions, args.orders):
        folder = args.out / f"{precision}-{order}"
        if not (folder / "summary.json").exists():
            command = [args.earlybird, "search", "--data", args.data, "--model", args.model, "--width", args.width, "--batch-size", "128", "--lr", "0.1"]
            # No run is that long: none stops early; emergence is worked out from the masks.
            command += ["--milestones", "none", "--search-epochs", str(args.epochs), "--epochs", str(args.epochs), "--prune", ",".join(map(str, RATIOS)), "--queue", "1000"]
            command += ["--seed", str(order), "--search-precision", precision, "--out", str(folder)]
            command += ["--init", str(init)] if init.exists() else []
            command += [f"--{flag}" for flag in args.more if precision == "int8"]
            start = time.time()
            done = subprocess.run(command, capture_output=True, text=True)
            if not (folder / "masks.bin").exists():
                raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
            print(f"{folder.name}: {time.time() - start:.0f} s", flush=True)
        if not init.exists():
            init.write_bytes((folder / "init.safetensors").read_bytes())
        rows = list(csv.DictReader((folder / "metrics.csv").open()))
        drawn = masks(folder / "masks.bin")
        runs[precision, order] = {
            "loss": float(rows[-1]["train_loss"]),
            "test": float(rows[-1]["test_accuracy"]),
            "tickets": {ratio: consecutive(drawn, ratio) for ratio in RATIOS},
            "strict": {ratio: emerged(drawn, ratio) for ratio in RATIOS},
            "closest": {ratio: min((distance for _, distance in settling(drawn, ratio)), default=1) for ratio in RATIOS},
            "masks": drawn,
        }

    print(f"\n| run | loss after {args.epochs} epochs | test accuracy | tickets at 30/50/70% | five masks within 0.1 of the newest | closest to that |\n|---|---|---|---|---|---|")
    for (precision, order), run in runs.items():
        tickets, strict = ("/".join(str(run[rule][ratio]) for ratio in RATIOS) for rule in ("tickets", "strict"))
        closest = "/".join(f"{run['closest'][ratio]:.3f}" for ratio in RATIOS)
        print(f"| {precision}, order {order} | {run['loss']:.3f} | {run['test']:.4f} | {tickets} | {strict} | {closest} |")
    print("\n| precision | mean loss | mean ticket epochs (spread) |\n|---|---|---|")
    for precision in args.precisions:
        mine = [run for (p, _), run in runs.items() if p == precision]
        cells = []
        for ratio in RATIOS:
            epochs = [run["tickets"][ratio] for run in mine]
            known = [epoch for epoch in epochs if epoch is not None]
            missing = f", {len(epochs) - len(known)} without" if len(known) < len(epochs) else ""
            cells.append(f"{np.mean(known):.1f} ({max(known) - min(known):.0f}{missing})" if known else "none")
        print(f"| {precision} | {np.mean([run['loss'] for run in mine]):.3f} | {' / '.join(cells)} |")

    epochs = [epoch for epoch in (6, 12, 18, 22) if epoch <= args.epochs]
    print("\nOverlap of masks, different orders of the data, mean over pairs:\n")
    print("| pair | " + " | ".join(f"{ratio:.0%} epoch {epoch}" for ratio in RATIOS for epoch in epochs) + " |")
    print("|---|" + "---|" * (len(RATIOS) * len(epochs)))
    table = {}
    for a, b in itertools.combinations_with_replacement(args.precisions, 2):
        pairs = [(x, y) for x in args.orders for y in args.orders if (x < y if a == b else x != y)]
        cells = []
        for ratio in RATIOS:
            for epoch in epochs:
                values = [overlap(runs[a, x]["masks"][epoch, ratio], runs[b, y]["masks"][epoch, ratio]) for x, y in pairs]
                cells.append(f"{np.mean(values):.3f}")
        table[f"{a}-{b}"] = cells
        print(f"| {a} and {b} | " + " | ".join(cells) + " |")
    (args.out / "overlap.json").write_text(json.dumps(table, indent=1))


main()
