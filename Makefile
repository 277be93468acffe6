# The few commands a developer needs. Everything else is plain cargo.

CARGO ?= cargo
# Cases that need compiled kernels are skipped, and say so, where NVRTC cannot be had; REQUIRE_NVRTC=1 makes that a failure (CI does).
REQUIRE_NVRTC ?= 0

# gpu-test: the device (cuda:0, cuda:1 .., or vgpu to prove the way without a GPU), where the report goes, and the profile that is built (dev is quicker).
DEVICE ?= cuda:0
REPORT ?= $(CURDIR)/gpu-report
PROFILE ?= release

.PHONY: demo test check lint nvrtc gpu-test gpu-bundle

# A narrow VGG-16 on the embedded digits finds its ticket by itself, is cut, trains on, and is compared with its dense twin.
demo:
	@CARGO="$(CARGO)" ./examples/demo.sh

# All tests. NVRTC is installed into ./.nvrtc first; without a network the rest still runs.
test:
	@$(MAKE) --no-print-directory nvrtc || [ "$(REQUIRE_NVRTC)" != 1 ]
	REQUIRE_NVRTC=$(REQUIRE_NVRTC) $(CARGO) test

# Formatting, lints and documentation, all as errors, and the rules of the house (layers, file lengths, names).
lint:
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps
	$(CARGO) test --test structure

# Everything: lint and all tests.
check: lint test

# On a machine with a GPU: self-test of every kernel, every test case for cuda, budgets and benches, with a report. Exit code 2 where there is no GPU.
gpu-test: nvrtc
	@CARGO="$(CARGO)" PROFILE=$(PROFILE) ./.ci/gpu-bundle.sh
	@DEVICE=$(DEVICE) REPORT=$(REPORT) "$${CARGO_TARGET_DIR:-target}/gpu/earlybird-gpu-test/run.sh"

# The same as an archive of prebuilt binaries, for a machine with a GPU and without Rust: unpack it there and run ./run.sh.
gpu-bundle: nvrtc
	@CARGO="$(CARGO)" PROFILE=$(PROFILE) ./.ci/gpu-bundle.sh pack

# The pinned NVRTC, ptxas and nvdisasm wheels into ./.nvrtc (97 MB; no GPU, no driver).
nvrtc:
	@./.ci/nvrtc.sh
