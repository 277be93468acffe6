"""Reads a run folder's events with the real TensorBoard (pip install tensorboard) and compares them with its metrics.csv.

    python3 tests/check_tensorboard.py runs/x

The framing itself is tested in tests/cli/outputs.rs, without Python.
"""

import csv
import math
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

TAGS = {"train/loss": "train_loss", "train/accuracy": "train_accuracy", "test/loss": "test_loss", "test/accuracy": "test_accuracy",
        "lr": "lr", "epoch": "epoch"}


def main(folder):
    events = EventAccumulator(folder)
    events.Reload()
    with open(f"{folder}/metrics.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    pairs = dict(TAGS)
    for column in rows[0]:
        if column.startswith("mask_distance_"):
            pairs["mask_distance/" + column.removeprefix("mask_distance_")] = column
    tags = set(events.Tags()["scalars"])
    for tag, column in pairs.items():
        wanted = [(i + 1, float(row[column])) for i, row in enumerate(rows) if row[column]]
        assert tag in tags or not wanted, f"TensorBoard does not see {tag}: {sorted(tags)}"
        found = [(event.step, event.value) for event in events.Scalars(tag)] if wanted else []
        same = len(found) == len(wanted) and all(
            a[0] == b[0] and math.isclose(a[1], b[1], rel_tol=1e-6, abs_tol=1e-9) for a, b in zip(found, wanted))
        assert same, f"{tag}: TensorBoard reads {found}, metrics.csv has {wanted}"
        print(f"{tag}: {len(found)} scalars agree")


main(sys.argv[1])
