# scalesocket. `make help` lists the targets.
.POSIX:

CARGO = cargo
PREFIX = /usr/local
DESTDIR =
# What `make install` installs; `make install BIN=…` for another build.
BIN = target/release/scalesocket
# Tests at a time: most of them wait, for a time-out or for a slow client.
TESTTHREADS = 4
# What `make static` builds for.
TARGET = x86_64-unknown-linux-musl
# Rust's own linker needs nothing from the system, whatever it links for. It folds functions that came out
# the same and packs the relocations of a position-independent program: 50 KB less.
STATICFLAGS = -C linker=rust-lld -C link-arg=--icf=all -C link-arg=--pack-dyn-relocs=relr
# Where `make demo` listens.
ADDR = localhost:9000
# Where `make bench-peers` puts the servers that `make bench` compares with; those in PATH are found, too.
PEERS = $${XDG_CACHE_HOME:-$$HOME/.cache}/scalesocket-peers
# More for the load generator: `make bench BENCHFLAGS='--only fan-out --before OLD'`.
BENCHFLAGS = --out benches/RESULTS.md

BINDIR = $(DESTDIR)$(PREFIX)/bin
MANDIR = $(DESTDIR)$(PREFIX)/share/man/man1
BASHDIR = $(DESTDIR)$(PREFIX)/share/bash-completion/completions
ZSHDIR = $(DESTDIR)$(PREFIX)/share/zsh/site-functions
FISHDIR = $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d

SCRIPTS = .ci/run benches/peers tests/house tests/system/prepare tests/system/static tests/system/programs/*.sh

.PHONY: build static static-target test test-system test-static bench bench-peers bench-smoke lint count \
	demo install uninstall clean help

build: ## build target/release/scalesocket
	$(CARGO) build --release --locked

static-target: ## have what `make static` needs, or say how to get it
	@have() { dir=$$(rustc --print target-libdir --target $(TARGET) 2>/dev/null) && [ -d "$$dir" ]; }; \
	if have; then exit 0; fi; \
	echo "make: Rust's target $(TARGET) is not installed; trying: rustup target add $(TARGET)" >&2; \
	RUST_BACKTRACE=0 rustup target add $(TARGET) >&2 || true; \
	if have; then exit 0; fi; \
	echo "make: CANNOT INSTALL the target $(TARGET), so nothing is built." >&2; \
	echo "make: With rustup: 'rustup target add $(TARGET)', on a machine that reaches Rust's servers." >&2; \
	echo "make: Without it: your system's package of Rust's standard library for $(TARGET)." >&2; \
	exit 1

# Where a dependency panics is in the binary by its file's name. Whose home directory it was built in is nobody's
# business, and the same source must come out the same everywhere. (Flags are split at spaces.)
static: static-target ## build one static binary for $(TARGET), and prove that it is static
	$(CARGO) fetch --quiet --locked --target $(TARGET)
	@flags="$${RUSTFLAGS-} $(STATICFLAGS)"; \
	for sources in "$${CARGO_HOME:-$$HOME/.cargo}"/registry/src/*/; do \
		case $$sources in *[[:space:]]*) ;; *) flags="$$flags --remap-path-prefix=$$sources=";; esac; \
	done; \
	set -x; RUSTFLAGS="$$flags" $(CARGO) build --release --locked --target $(TARGET)
	@built="$${CARGO_TARGET_DIR:-target}/$(TARGET)/release/scalesocket"; \
	tests/system/static "$$built" && \
	echo "$$built: static, $$(wc -c < "$$built" | tr -d ' ') bytes"

test: ## run the tests that need Rust and a POSIX shell only
	$(CARGO) test --quiet --locked -- --test-threads=$(TESTTHREADS)

test-system: ## run scalesocket against browsers, inetd, systemd and others' clients
	tests/system/prepare
	$(CARGO) build --quiet --locked
	.system/venv/bin/python tests/system/run.py

test-static: static ## run the static binary in an empty directory that is its whole world (root)
	python3 tests/system/chroot.py "$${CARGO_TARGET_DIR:-target}/$(TARGET)/release/scalesocket" $(TARGET)

bench: static ## measure the static binary beside a plain baseline and the peers that are installed (20 minutes)
	$(CARGO) bench --quiet --locked --bench load -- --peers "$(PEERS)" \
		--server "$${CARGO_TARGET_DIR:-target}/$(TARGET)/release/scalesocket" $(BENCHFLAGS)

bench-smoke: build ## run each measurement once and short, to check that it works
	$(CARGO) bench --quiet --locked --bench load -- --smoke \
		--server "$${CARGO_TARGET_DIR:-target}/release/scalesocket"

bench-peers: ## install the servers that `make bench` compares with, under $(PEERS)
	benches/peers "$(PEERS)"

lint: ## check format, lints, the man page and the scripts
	$(CARGO) fmt --check
	$(CARGO) clippy --quiet --locked --all-targets -- -D warnings
	@if command -v mandoc >/dev/null; then \
		echo 'mandoc -T lint -W warning man/scalesocket.1'; mandoc -T lint -W warning man/scalesocket.1; \
	else echo 'make: mandoc is not here, the man page is not checked' >&2; fi
	@for script in $(SCRIPTS); do sh -n "$$script" || exit 1; done
	@if command -v shellcheck >/dev/null; then \
		echo 'shellcheck $(SCRIPTS)'; shellcheck $(SCRIPTS); \
	else echo 'make: shellcheck is not here, the scripts are only parsed' >&2; fi
	tests/house --self-test

count: ## count the lines of code, by room and along the path of a message
	@tests/house

demo: build ## serve examples/chat, for two tabs that talk to each other
	@echo 'Open http://$(ADDR)/ in two tabs. Control-C ends it.'
	@"$${CARGO_TARGET_DIR:-target}/release/scalesocket" --addr $(ADDR) --frame=json --cache tagged:50 \
		--joinmsg '{"_to":#ID,"_join":#ID}' --leavemsg '{"_leave":#ID}' --staticdir examples/chat cat

# Does not call cargo when there is something to install: `make && sudo make install`.
install: ## install binary, man page and completions under $(DESTDIR)$(PREFIX)
	@if [ ! -x '$(BIN)' ]; then $(MAKE) build; fi
	umask 022; mkdir -p '$(BINDIR)' '$(MANDIR)' '$(BASHDIR)' '$(ZSHDIR)' '$(FISHDIR)'
	install -m 755 '$(BIN)' '$(BINDIR)/scalesocket'
	install -m 644 man/scalesocket.1 '$(MANDIR)/scalesocket.1'
	'$(BIN)' --completions bash > '$(BASHDIR)/scalesocket'
	'$(BIN)' --completions zsh > '$(ZSHDIR)/_scalesocket'
	'$(BIN)' --completions fish > '$(FISHDIR)/scalesocket.fish'
	chmod 644 '$(BASHDIR)/scalesocket' '$(ZSHDIR)/_scalesocket' '$(FISHDIR)/scalesocket.fish'

uninstall: ## remove what `make install` installed
	rm -f '$(BINDIR)/scalesocket' '$(MANDIR)/scalesocket.1' '$(BASHDIR)/scalesocket' \
		'$(ZSHDIR)/_scalesocket' '$(FISHDIR)/scalesocket.fish'

clean: ## remove what was built, and what the system tests installed
	$(CARGO) clean
	rm -rf .system

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' Makefile | expand -t 16
