#!/bin/sh
# `make demo`: a narrow VGG-16 on the embedded digits finds its Early-Bird ticket by itself, is cut and trains on; then its dense twin trains as long.
# Exit code 1 if less than half of the channels went or the ticket ends more than 1.5 points below its twin.
set -eu
cd "$(dirname "$0")/.."

${CARGO:-cargo} build --release
bin=${CARGO_TARGET_DIR:-target}/release/earlybird
out=${OUT:-runs/demo-$(date +%Y%m%d-%H%M%S)}
start=$(date +%s)

printf '\n== Ticket: search, cut, train on\n'
"$bin" train --config examples/digits.toml --out "$out/ticket"
printf '\n== Dense twin: the same settings without masks and cut\n'
"$bin" train --config examples/digits.toml --dense --out "$out/dense"
seconds=$(($(date +%s) - start))

# The n-th number under a key of summary.json (`before` stands before `after`).
number() { sed -n "s/.*\"$2\": \([0-9.]*\).*/\1/p" "$1/summary.json" | sed -n "$3p"; }

printf '\n== Result\n'
failed=0
for key in bn_channels parameters flops; do
    echo "$key $(number "$out/ticket" $key 1) $(number "$out/ticket" $key 2)"
done | awk -v dense="$(number "$out/dense" last 1)" -v ticket="$(number "$out/ticket" last 1)" \
    -v epoch="$(number "$out/ticket" ticket_epoch 1)" -v seconds="$seconds" '
    BEGIN {
        printf "%-24s %12s %12s\n", "", "dense twin", "ticket"
        printf "%-24s %11.2f%% %11.2f%%   %+.2f points\n", "test accuracy", 100 * dense, 100 * ticket, 100 * (ticket - dense)
        failed = 100 * (dense - ticket) > 1.5
    }
    {
        name = $1 == "bn_channels" ? "channels" : $1 == "flops" ? "FLOPs per image" : $1
        printf "%-24s %12d %12d   %.1f%% stay\n", name, $2, $3, 100 * $3 / $2
        if ($1 == "bn_channels" && 2 * $3 > $2) failed = 1
    }
    END {
        printf "the ticket emerged after %g epochs; %d s in all\n", epoch, seconds
        exit failed
    }' || failed=1

"$bin" report "$out/ticket" "$out/dense" --out "$out/report.html" >/dev/null
printf '\nOpen this in a browser: %s\n' "$out/report.html"
echo "Plots (SVG) and data are in $out/ticket and $out/dense; TensorBoard: tensorboard --logdir $out"
exit "$failed"
