"""Writes fixtures/photos.safetensors: image files of many kinds, and what Pillow and torchvision make of them.

    pip install numpy pillow torch torchvision safetensors
    python tests/data/make_photos.py

`NAME/file` are the bytes of a JPEG or PNG file. `NAME/rgb` is torchvision's loader (Pillow's `convert("RGB")`), HWC. `NAME/evaluate` is Resize(36), CenterCrop(32) of it, `NAME/crop`
is `resized_crop` of the box in `NAME/box` (top, left, height, width) to 32x32: bilinear with antialiasing, as the transforms do it on Pillow's images. grey16 has no `rgb`: Pillow clips
16-bit grey to 255, which is not wanted. Committed: Pillow 12, torchvision 0.29.
"""

import io
import pathlib

import numpy as np
from PIL import Image
from safetensors.numpy import save_file
from torchvision.transforms import CenterCrop, Resize
from torchvision.transforms import functional as F

out = {}


def photograph(width, height, seed):
    """Smooth colours with edges and a little noise, as photographs have them."""
    rng = np.random.Generator(np.random.PCG64(seed))
    y, x = np.mgrid[0:height, 0:width].astype(float)
    planes = []
    for c in range(3):
        a, b, p = rng.uniform(0.02, 0.15, 2).tolist() + [rng.uniform(0, 6)]
        planes.append(127 + 90 * np.sin(a * x + p) * np.cos(b * y) + 30 * ((x + y * (c + 1)) % 40 > 20) + rng.normal(0, 2, x.shape))
    return np.clip(np.stack(planes, -1), 0, 255).astype(np.uint8)


def add(name, image, form, rgb=True, box=None, **options):
    data = io.BytesIO()
    image.save(data, form, **options)
    put = lambda key, value: out.__setitem__(f"{name}/{key}", np.ascontiguousarray(value))
    put("file", np.frombuffer(data.getvalue(), np.uint8))
    if rgb:
        seen = Image.open(data).convert("RGB")
        put("rgb", np.array(seen))
        put("evaluate", np.array(CenterCrop(32)(Resize(36)(seen))))
        if box:
            put("box", np.array(box, np.int32))
            put("crop", np.array(F.resized_crop(seen, *box, [32, 32])))


colour = Image.fromarray(photograph(90, 61, 1))
add("png", colour, "PNG", box=(5, 11, 40, 33))
add("wide", Image.fromarray(photograph(150, 40, 2)), "PNG", box=(0, 101, 9, 12))  # the crop is enlarged, and nothing beside it may shine through
add("small", Image.fromarray(photograph(9, 7, 3)), "PNG", box=(1, 2, 5, 4))
add("one", Image.fromarray(photograph(1, 1, 4)), "PNG", box=(0, 0, 1, 1))
add("line", Image.fromarray(photograph(1, 120, 5)), "PNG", box=(50, 0, 1, 1))
add("jpeg", colour, "JPEG", quality=90, subsampling=0, box=(5, 11, 40, 33))
add("jpeg420", colour, "JPEG", quality=85, subsampling=2, box=(5, 11, 40, 33))
add("progressive", colour, "JPEG", quality=90, subsampling=0, progressive=True)
add("grey", colour.convert("L"), "JPEG", quality=90)
add("cmyk", colour.convert("CMYK"), "JPEG", quality=95, subsampling=0)
exif = Image.Exif()
exif[0x0112] = 6  # to be turned by a quarter: torchvision does not look at it
add("exif", colour, "JPEG", quality=90, subsampling=0, exif=exif)
add("palette", colour.quantize(64), "PNG")
alpha = colour.copy()
alpha.putalpha(Image.fromarray(photograph(90, 61, 6)[..., 0]))
add("alpha", alpha, "PNG")
ramp = (np.arange(48 * 40, dtype=np.uint32).reshape(40, 48) * 34).astype(np.uint16)
add("grey16", Image.fromarray(ramp), "PNG", rgb=False)
path = pathlib.Path(__file__).parent / "fixtures/photos.safetensors"
save_file(out, path)
path.chmod(0o644)
print(path.stat().st_size // 1024, "KiB")
