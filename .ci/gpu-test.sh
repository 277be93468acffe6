#!/bin/sh
# Runs the suite on a GPU and writes a report. Lies in a bundle as run.sh; needs no Rust, no CUDA toolkit, only NVIDIA's driver.
#
#   ./run.sh                    everything on cuda:0, report in ./report
#   DEVICE=cuda:1 ./run.sh      another GPU; DEVICE=vgpu proves the way on a machine without one
#   TESTS=golden BENCH=conv2d   only tests and benches whose names match (grep -E); BENCH=none leaves benches out
#   REPORT=FOLDER, LIMIT=SECONDS (of one test, 900)
#
# Each test is a process of its own: a kernel that breaks the device breaks one test. Exit code: 0 all passed, 1 something failed, 2 no such device.
set -u
here=$(cd "$(dirname "$0")" && pwd)
device=${DEVICE:-cuda:0}
report=${REPORT:-$PWD/report}
limit=${LIMIT:-900}
only=${TESTS:-.}
bench=${BENCH:-.}
earlybird=$here/bin/earlybird

export EARLYBIRD_TEST_ROOT="$here/root" EARLYBIRD_TEST_EXE="$earlybird" EARLYBIRD_TEST_GPU="$device"
export REQUIRE_CUDA=1 REQUIRE_NVRTC=1

rm -rf "$report/logs" # of an earlier run
mkdir -p "$report/logs" || exit 1
page=$report/report.md
now() { date +%s.%N; }
since() { awk -v a="$1" -v b="$(now)" 'BEGIN { printf "%.1f", b - a }'; }
run() { if command -v timeout >/dev/null 2>&1; then timeout "$limit" "$@"; else "$@"; fi; }
began=$(now)

# ---- the device, kernel by kernel
start=$(now)
"$earlybird" doctor --device "$device" --json >"$report/logs/doctor.log" 2>"$report/logs/doctor.err"
code=$?
if [ "$code" -ge 2 ]; then
    echo "gpu-test: $device cannot be used here, nothing was tested:" >&2
    sed 's/^/    /' "$report/logs/doctor.err" >&2
    echo "    Run this on a machine with an NVIDIA GPU and its driver, or prove the way without one: DEVICE=vgpu" >&2
    exit 2
fi
tail -n 1 "$report/logs/doctor.log" >"$report/doctor.json"
[ "$code" = 0 ] && doctor=passed || doctor=FAILED
echo "doctor: $doctor in $(since "$start") s"
doctor_seconds=$(since "$start")

# ---- the tests
passed=0
failed=0
rows=$report/logs/rows
: >"$rows"
for binary in "$here"/tests/*; do
    suite=$(basename "$binary")
    for name in $("$binary" --list 2>/dev/null | sed -n 's/: test$//p' | grep '\(^\|::\)cuda::'); do
        echo "$suite $name" | grep -qE "$only" || continue
        log=$report/logs/$suite-$(echo "$name" | tr -s ':' '-').log
        start=$(now)
        (cd "$report" && run "$binary" --exact "$name" --nocapture >"$log" 2>&1)
        code=$?
        seconds=$(since "$start")
        # A name that matches no test is no pass.
        if [ "$code" = 0 ] && grep -q '^test result: ok. 1 passed' "$log"; then
            result=passed
            passed=$((passed + 1))
        else
            [ "$code" = 124 ] && result="FAILED: more than $limit s" || result="FAILED: exit code $code"
            failed=$((failed + 1))
        fi
        echo "| $suite | $name | $result | $seconds |" >>"$rows"
        echo "$suite $name: $result ($seconds s)"
    done
done

# ---- budgets: machine code by ptxas, where it is installed
budget=$(run "$earlybird" kernels budget 2>"$report/logs/budget.err" >"$report/logs/budget.log" && echo passed || echo "not passed, or not checked here within $limit s: $(head -n 1 "$report/logs/budget.err")")

# ---- benches
benches="left out"
if [ "$bench" != none ]; then
    (cd "$report" && EARLYBIRD_BENCH=$device "$here/bin/bench-ops" --bench "$(echo "$bench" | sed 's/^\.$//')" >"$report/logs/bench.log" 2>&1) &&
        benches=run || benches=FAILED
fi
case $device in
vgpu*) echo "a virtual GPU has no speed to measure" >"$report/logs/step.log" ;;
*)
    for size in 128 256; do
        for precision in f32 int8; do
            run "$earlybird" bench step --model vgg16 --batch-size "$size" --precision "$precision" --device "$device"
        done
    done >"$report/logs/step.log" 2>&1
    ;;
esac

# ---- the report
field() { sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p" "$report/doctor.json" | head -n 1; }
{
    echo "# earlybird on $(field name)"
    echo
    echo "| what | |"
    echo "| --- | --- |"
    echo "| device | $device: $(field name) |"
    echo "| driver | $(field driver) |"
    echo "| host | $(uname -srm), $(uname -n), $(sed -n 's/^model name.*: //p' /proc/cpuinfo 2>/dev/null | head -n 1) |"
    echo "| date | $(date -u '+%Y-%m-%d %H:%M UTC'), $(since "$began") s in all |"
    sed 's/^/| build | /; s/$/ |/' "$here/BUILT"
    echo "| doctor | $doctor in $doctor_seconds s: $(sed -n 's/^kernels  *\([0-9]* of .*\)/\1/p' "$report/logs/doctor.log" | tail -n 1) |"
    echo "| tests | $passed passed, $failed failed |"
    echo "| budgets | $budget |"
    echo "| benches | $benches |"
    echo
    echo "## Kernels that did not pass"
    echo
    echo '```'
    grep -E '^(FAILED|NOT TESTED)' "$report/logs/doctor.log" || echo none
    echo '```'
    echo
    echo "## Tests"
    echo
    echo "| suite | test | result | seconds |"
    echo "| --- | --- | --- | --- |"
    cat "$rows"
    echo
    echo "## A training step, measured"
    echo
    echo '```'
    cat "$report/logs/step.log"
    echo '```'
    echo
    echo "## Benches"
    echo
    echo "Times between device events, L2 flushed before each run; \`counted\` is no time. Lowest, median and highest estimate."
    echo
    echo '```'
    # criterion puts a long id and its times on two lines
    awk '/^counted/ { print } /time: / { if ($1 == "time:") print id "  " $0; else print; next } /thrpt: / { print } NF == 1 { id = $1 }' "$report/logs/bench.log" 2>/dev/null
    echo '```'
} >"$page"
echo "gpu-test: $passed passed, $failed failed, doctor $doctor; $page"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ] && [ "$doctor" = passed ] && [ "$benches" != FAILED ]
