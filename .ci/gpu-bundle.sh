#!/bin/sh
# Collects what a machine with a GPU needs to run the suite without Rust: the test binaries that have cases for `cuda`, the command, the benches, every fixture, and
# gpu-test.sh as run.sh. `make gpu-bundle` packs the folder, `make gpu-test` runs it where it is. PROFILE: release (default), or dev for a trial.
set -eu
cd "$(dirname "$0")/.."

cargo=${CARGO:-cargo}
profile=${PROFILE:-release}
target=${CARGO_TARGET_DIR:-target}
out=$target/gpu/earlybird-gpu-test

# Paths of the executables that cargo has built: those of the last call, as JSON lines.
executables() { sed -n 's/.*"executable":"\([^"]*\)".*/\1/p'; }

echo "gpu-bundle: building the command, tests and benches ($profile)"
# Test targets with cases for each device.
suites=$(grep -rlE '(^|[^_])mod cuda \{|^for_each_(device|gpu)!\(' tests | sed 's|^tests/\([^/.]*\).*|--test \1|' | sort -u)
# shellcheck disable=SC2086
"$cargo" test --profile "$profile" --no-run $suites --message-format=json-render-diagnostics >"$target/gpu-tests.json"
"$cargo" bench --profile "$profile" --no-run --bench ops --message-format=json-render-diagnostics >"$target/gpu-benches.json"

rm -rf "$out"
mkdir -p "$out/bin" "$out/tests" "$out/root"
for built in $(executables <"$target/gpu-tests.json"); do
    # target/debug/deps/golden-0123456789abcdef, but target/debug/earlybird
    name=$(basename "$built" | sed 's/-[0-9a-f]\{16\}$//')
    case $built in
    */deps/*)
        if "$built" --list 2>/dev/null | grep -q '\(^\|::\)cuda::.*: test$'; then cp "$built" "$out/tests/$name"; fi
        ;;
    *) cp "$built" "$out/bin/$name" ;;
    esac
done
for built in $(executables <"$target/gpu-benches.json"); do
    case $(basename "$built") in ops-*) cp "$built" "$out/bin/bench-ops" ;; esac
done
[ -x "$out/bin/earlybird" ] && [ -x "$out/bin/bench-ops" ] || {
    echo "gpu-bundle: cargo built no command or no benches" >&2
    exit 1
}
# Debug lines are two thirds of a binary.
if command -v strip >/dev/null 2>&1; then strip "$out"/bin/* "$out"/tests/*; fi

# Fixtures: everything under tests/ that is no source, where the tests look for it.
git ls-files tests | grep -v '\.\(rs\|py\|md\|cu\)$' | while read -r file; do
    mkdir -p "$out/root/$(dirname "$file")"
    cp "$file" "$out/root/$file"
done
cp .ci/gpu-test.sh "$out/run.sh"
{
    "$out/bin/earlybird" --version
    echo "commit $(git rev-parse --short HEAD 2>/dev/null || echo unknown)$(git diff --quiet HEAD 2>/dev/null || echo ', changed')"
    echo "profile $profile, $(${RUSTC:-rustc} --version)"
    "$out/bin/earlybird" kernels list | sed -n 1p
} >"$out/BUILT"
echo "gpu-bundle: $(find "$out/tests" -type f | wc -l) test binaries, $(du -sh "$out" | cut -f1) in $out"
if [ "${1:-}" = pack ]; then
    tar -C "$target/gpu" -czf "$target/gpu/earlybird-gpu-test.tar.gz" earlybird-gpu-test
    echo "gpu-bundle: $target/gpu/earlybird-gpu-test.tar.gz ($(du -h "$target/gpu/earlybird-gpu-test.tar.gz" | cut -f1)); unpack it on a machine with a GPU and run ./run.sh"
fi
