#!/usr/bin/env python3
"""Training speed and memory of `earlybird` on the CPU against PyTorch on the same CPU, measured alternately in one go.

    pip install torch numpy                            # any torch from 2.0 on; the CPU wheel: --index-url https://download.pytorch.org/whl/cpu
    pip install qtorch ninja                           # for --low: compiles a C++ extension when it is first imported
    cargo build --release
    python benches/vs_pytorch.py [--low] [--widths 1.0 0.25] [--rounds 5] [--batch-size 128] [--threads N] [--earlybird none]

Every contestant is a fresh process: PyTorch eager f32 on contiguous NCHW, PyTorch on channels_last, and `earlybird bench step --precision f32`. With `--low` also
PyTorch under bf16 autocast (channels_last), the official code's 8-bit step (f32 arithmetic, rounded by QPyTorch: outputs of convolutions forward and backward, gradients, weights and
momenta), and `earlybird bench step --precision int8`. All get the same net (the official VGG16), batch, optimiser (SGD, momentum 0.9, weight decay 1e-4), loss and number of threads. One step is
zero_grad, forward, backward, optimiser; the batch lies in memory already. Each round runs all of them in turn, so that a busy machine slows all alike; judge by the
ratio of the best rounds. Peak RSS is the child's ru_maxrss and counts everything, the Python interpreter and libraries included, so PyTorch's RSS
before the net was built is printed beside it. The last line is JSON.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]


def low_precision(model, opt):
    """The official code's 8 bits (`main_lp.py`): a shared stochastic block quantiser behind every convolution, forward and backward, and around the optimiser's step. One exponent per
    sample or, for weights, per output channel; none behind the linear layer."""
    import qtorch
    import torch
    from qtorch.optim import OptimLP
    from qtorch.quant import Quantizer, quantizer

    number = qtorch.BlockFloatingPoint(wl=8, dim=0)
    shared = Quantizer(forward_number=number, backward_number=number, forward_rounding="stochastic", backward_rounding="stochastic")
    layers = [[m, shared] if isinstance(m, torch.nn.Conv2d) else [m] for m in model.feature]
    model.feature = type(model.feature)(*[m for group in layers for m in group])
    rounded = quantizer(forward_number=number, forward_rounding="stochastic")
    return OptimLP(opt, weight_quant=rounded, grad_quant=rounded, momentum_quant=rounded)


def torch_child(a):
    """One round of PyTorch: warm-up steps, then steps for at least `--seconds`; prints one JSON line."""
    import resource

    import torch

    sys.path.insert(0, str(ROOT / "tests/golden"))
    import official

    torch.set_num_threads(a.threads)
    torch.manual_seed(0)
    idle = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    layout = torch.channels_last if a.child in ("nhwc", "bf16") else torch.contiguous_format
    model = official.VGG(official.scaled_cfg(int(a.model[3:]), a.widths[0])).to(memory_format=layout).train()
    opt = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    if a.child == "qtorch":
        opt = low_precision(model, opt)
    autocast = torch.autocast("cpu", dtype=torch.bfloat16, enabled=a.child == "bf16")
    x = torch.randn(a.batch_size, 3, 32, 32).contiguous(memory_format=layout)
    y = torch.randint(0, 10, (a.batch_size,))
    times = []
    for step in range(10 ** 6):
        start = time.perf_counter()
        opt.zero_grad(set_to_none=True)
        with autocast:
            loss = torch.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        opt.step()
        if step >= 2:
            times.append(time.perf_counter() - start)
        if len(times) >= 3 and sum(times) >= a.seconds:
            break
    seconds = statistics.median(times)
    print(json.dumps({"images_per_second": a.batch_size / seconds, "seconds_per_step": seconds, "idle_bytes": idle, "version": torch.__version__}))


def run(command, env):
    """Runs a child; its last JSON line, with the peak RSS that the system saw; `None` where it failed, which is said."""
    child = subprocess.Popen([str(c) for c in command], stdout=subprocess.PIPE, env=env, text=True)
    out = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        print(f"{' '.join(map(str, command))}: exit code {child.returncode}\n{out}", file=sys.stderr, flush=True)
        return None
    line = [text for text in out.splitlines() if text.startswith("{")][-1]
    return {**json.loads(line), "rss": usage.ru_maxrss * 1024}


def contest(a, width):
    """All rounds at one width; figures per contestant."""
    env = {**os.environ, "OMP_NUM_THREADS": str(a.threads), "MKL_NUM_THREADS": str(a.threads), "RAYON_NUM_THREADS": str(a.threads)}
    base = [sys.executable, __file__, "--model", a.model, "--widths", width, "--batch-size", a.batch_size, "--threads", a.threads, "--seconds", a.seconds]
    commands = {"torch nchw": base + ["--child", "nchw"], "torch nhwc": base + ["--child", "nhwc"]}
    if a.low:
        commands |= {"torch bf16": base + ["--child", "bf16"], "qtorch 8 bit": base + ["--child", "qtorch"]}
    for name, precision in [("earlybird", "f32"), ("earlybird int8", "int8")][: 2 if a.low else 1]:
        if a.earlybird != "none":
            commands[name] = [a.earlybird, "bench", "step", "--model", a.model, "--width", width, "--batch-size", a.batch_size, "--device", "cpu",
                              "--precision", precision, "--json"]
    runs = {name: [] for name in commands if name not in a.skip}
    for number in range(1, a.rounds + 1):
        for name in list(runs):
            done = run(commands[name], env)
            if done is None:
                # What the others do is not lost.
                print(f"{name} is left out", file=sys.stderr, flush=True)
                del runs[name]
                continue
            runs[name].append(done)
            print(f"round {number}: {name} {done['images_per_second']:.1f} images/s", file=sys.stderr, flush=True)
    rows = {}
    for name, rounds in runs.items():
        speeds = [r["images_per_second"] for r in rounds]
        rows[name] = {"best": max(speeds), "median": statistics.median(speeds), "peak_rss": min(r["rss"] for r in rounds)}
        for key in ("idle_bytes", "peak_bytes", "version"):
            if key in rounds[0]:
                rows[name][key] = rounds[0][key]
    torch_rows = [rows[name] for name in ("torch nchw", "torch nhwc") if name in rows]
    for own in (row for name, row in rows.items() if name.startswith("earlybird") and torch_rows):
        for key in ("best", "median"):
            own[f"ratio_{key}"] = own[key] / max(r[key] for r in torch_rows)
            for other in ("torch bf16", "qtorch 8 bit"):
                if other in rows:
                    own[f"{other} ratio_{key}"] = own[key] / rows[other][key]
        own["ratio_rss"] = own["peak_rss"] / min(r["peak_rss"] for r in torch_rows)
        # the stricter question: against what PyTorch added to its bare import
        own["ratio_rss_over_import"] = own["peak_rss"] / min(r["peak_rss"] - r["idle_bytes"] for r in torch_rows)
    return rows


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", default="vgg16")
    p.add_argument("--widths", type=float, nargs="+", default=[1.0, 0.25])
    p.add_argument("--batch-size", type=int, default=128)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--seconds", type=float, default=4.0, help="measured time of one PyTorch round")
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--earlybird", default=str(ROOT / "target/release/earlybird"), help="the binary; `none` measures PyTorch alone")
    p.add_argument("--low", action="store_true", help="low precision, too: bf16 autocast, the official 8-bit step, our int8")
    p.add_argument("--skip", nargs="*", default=[], metavar="NAME", help="contestants to leave out, such as 'torch bf16', which takes minutes without AMX or AVX-512")
    p.add_argument("--child", choices=["nchw", "nhwc", "bf16", "qtorch"], help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.child:
        return torch_child(a)
    results = {}
    for width in a.widths:
        rows = results[f"{a.model} width {width}"] = contest(a, width)
        print(f"\n{a.model} width {width}, batch {a.batch_size}, {a.threads} threads, {a.rounds} rounds")
        print("                 images/s best    median   peak RSS MiB   before the net   best/torch   median/torch   RSS/torch   RSS/(torch-before)")
        for name, r in rows.items():
            idle = f"{r['idle_bytes'] / 2**20:10.0f}" if "idle_bytes" in r else f"{'':10}"
            ratios = f"{r['ratio_best']:12.2f} {r['ratio_median']:14.2f} {r['ratio_rss']:11.2f} {r['ratio_rss_over_import']:20.2f}" if "ratio_best" in r else ""
            print(f"{name:14} {r['best']:15.1f} {r['median']:9.1f} {r['peak_rss'] / 2**20:14.0f} {idle:>16} {ratios}", flush=True)
        for name, r in rows.items():
            for other in ("torch bf16", "qtorch 8 bit"):
                if f"{other} ratio_best" in r:
                    print(f"{name} / {other}: best {r[f'{other} ratio_best']:.2f}, median {r[f'{other} ratio_median']:.2f}", flush=True)
    print("\n" + json.dumps({"vs_pytorch": results, "batch_size": a.batch_size, "threads": a.threads, "rounds": a.rounds}))


if __name__ == "__main__":
    main()
