"""Writes fixtures/: one batch of CIFAR's Python version as each pickle protocol writes it, by the NumPy that runs this.

    python -m venv v && v/bin/pip install 'numpy<2' && v/bin/python tests/data/make_fixtures.py numpy1
    python -m venv v && v/bin/pip install 'numpy>=2' && v/bin/python tests/data/make_fixtures.py numpy2

The committed files are of NumPy 1.26.4 and 2.4.6 under Python 3.11. `numpy1-p2-str` has text keys and the array in Fortran order; the other files have bytes keys, as torchvision's
files have them when Python 3 reads and writes them again. Pixel j of image i is (7 i + j // 16) mod 256; labels are 3, 9 (CIFAR-10) and 42, 99 (CIFAR-100).
"""

import pathlib
import pickle
import sys

import numpy as np

name = sys.argv[1]
folder = pathlib.Path(__file__).parent / "fixtures"
folder.mkdir(exist_ok=True)
data = ((7 * np.arange(2)[:, None] + np.arange(3072)[None, :] // 16) % 256).astype(np.uint8)
batch = {
    b"batch_label": b"training batch 1 of 5",
    b"labels": [3, 9],
    b"fine_labels": [42, 99],
    b"coarse_labels": [7, 13],
    b"data": data,
    b"filenames": [b"a.png", b"it's_b.png"],
}
for protocol in range(6):
    (folder / f"{name}-p{protocol}").write_bytes(pickle.dumps(batch, protocol))
if name == "numpy1":
    text = {key.decode(): value for key, value in batch.items()}
    text["data"] = np.asfortranarray(data)
    (folder / "numpy1-p2-str").write_bytes(pickle.dumps(text, 2))
