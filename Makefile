# The few commands a developer needs. Everything else is plain cargo.

CARGO ?= cargo
# Cases that need compiled kernels are skipped, and say so, where NVRTC cannot be had; REQUIRE_NVRTC=1 makes that a failure (CI does).
REQUIRE_NVRTC ?= 0

.PHONY: demo test check lint nvrtc

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

# The pinned NVRTC, ptxas and nvdisasm wheels into ./.nvrtc (97 MB; no GPU, no driver).
nvrtc:
	@./.ci/nvrtc.sh
