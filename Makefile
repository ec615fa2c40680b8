# A thin front over meson. `make help` tells what there is.
prefix ?= /usr
DESTDIR ?=
PLAIN = build/plain
ASAN = build/asan
CLANG = build/clang
FUZZ = build/fuzz
TSAN = build/tsan
MESON_FLAGS = --prefix=$(prefix)
# Unoptimised: with sanitizers, optimising the tests takes longer than running them.
SANITIZE = --buildtype=debug -Db_sanitize=address,undefined -Db_lundef=false

.PHONY: all help deps install demo check check-full fuzz bench lint coverage tidy roots clean

all: $(PLAIN)/build.ninja  ## build the programs and the library (build/plain)
	ninja -C $(PLAIN)

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

deps:  ## install build tools and libraries with apt-get (never an MTA, never a DNS server)
	packaging/install-build-deps

$(PLAIN)/build.ninja: | deps
	meson setup $(MESON_FLAGS) $(PLAIN)
$(ASAN)/build.ninja: | deps
	meson setup $(MESON_FLAGS) $(SANITIZE) $(ASAN)
$(CLANG)/build.ninja: | deps
	CC=clang-14 CXX=clang++-14 meson setup $(MESON_FLAGS) $(SANITIZE) $(CLANG)
$(FUZZ)/build.ninja: | deps
	CC=clang-14 CXX=clang++-14 meson setup $(MESON_FLAGS) $(SANITIZE) -Doptimization=1 -Dfuzz=true $(FUZZ)

$(TSAN)/build.ninja: | deps
	meson setup $(MESON_FLAGS) --buildtype=debug -Db_sanitize=thread -Db_lundef=false $(TSAN)

install: all  ## install below DESTDIR, for prefix
	DESTDIR="$(DESTDIR)" meson install --no-rebuild -C $(PLAIN)

roots: | deps  ## make the Debian root that the laboratory's daemons live in
	packaging/root lab

demo: deps all roots  ## real messages through a real Exim to a dozen domains, as a table
	tests/lab/demo --build $(PLAIN)

check: deps $(ASAN)/build.ninja all roots  ## all tests: units and corpora with sanitizers, lints, the laboratory
	ninja -C $(ASAN)
	tests/run $(ASAN):unit,abi,fuzz $(PLAIN):lint,packaging,lab

check-full: check demo $(CLANG)/build.ninja $(TSAN)/build.ninja  ## besides: the demonstration, the second compiler, threads, slow tests, clang-tidy, the packages
	tests/run $(PLAIN):full
	ninja -C $(CLANG)
	ninja -C $(TSAN) tests/unit/store_thread_test
	tests/run $(CLANG):unit,abi,fuzz $(TSAN):threads $(PLAIN):slow
	$(MAKE) tidy
	$(MAKE) deb-check

SECONDS = 600
fuzz: $(FUZZ)/build.ninja  ## every parser under libFuzzer (SECONDS=600 for each); fails on any finding
	ninja -C $(FUZZ) fuzzers
	tests/fuzz/run $(FUZZ) $(SECONDS)

bench: all  ## what a cached decision costs, as ratios
	meson test --benchmark -C $(PLAIN) --verbose

lint: $(PLAIN)/build.ninja  ## layout, includes, citations, format
	meson test -C $(PLAIN) --suite lint

coverage:  ## the page of what proves each MUST and SHOULD (build/coverage.md)
	@mkdir -p build
	/usr/bin/python3 -B tests/lint/coverage.py build/coverage.md

tidy: $(PLAIN)/build.ninja  ## clang-tidy over the shipped sources
	run-clang-tidy-14 -quiet -p $(PLAIN) '/(core|plugin|shims)/.*\.cc$$' > $(PLAIN)/tidy.log 2>&1 || { grep -E 'warning|error' $(PLAIN)/tidy.log; exit 1; }

.PHONY: deb deb-check
SUITES = bookworm
deb: | deps  ## Debian packages, built and examined in a root of their own (build/deb; SUITES="bookworm trixie")
	set -e; for suite in $(SUITES); do packaging/build-deb $$suite; done

# Machines with systemd, of which each test has its own; half an hour for both releases.
deb-check: SUITES = bookworm trixie
deb-check: deb  ## their tests: use as documented, contents, purge, upgrade, the same packages from a second build
	set -e; for suite in $(SUITES); do for test in install mail opensmtpd upgrade reproduce; do \
		echo "== $$test $$suite"; tests/packaging/$$test $$suite; done; done

clean:  ## remove what was built, but not the roots
	rm -rf $(PLAIN) $(ASAN) $(CLANG) $(TSAN) $(FUZZ)
