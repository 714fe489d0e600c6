# scalesocket. `make help` lists the targets.
.POSIX:

CARGO = cargo
PREFIX = /usr/local
DESTDIR =
# What `make install` installs; `make install BIN=…` for another build.
BIN = target/release/scalesocket
# Tests that run at the same time: most of them wait, for a time-out or a slow client.
TESTTHREADS = 4
# What `make static` builds for.
TARGET = x86_64-unknown-linux-musl
# Cargo features of `make static`: `make static FEATURES='tls websocketd'` has all. TLS makes the binary 1 MB larger and
# needs a C compiler, the face of websocketd 0.15 MB.
FEATURES =
# What compiles C for the static binary: musl's compiler where it is installed. ring needs no C library.
STATICCC = $$(command -v musl-gcc || command -v gcc || command -v cc)
# Rust's own linker, so that no cross linker is needed. It merges identical functions and packs relocations:
# the binary is 50 KB smaller.
STATICFLAGS = -C linker=rust-lld -C link-arg=--icf=all -C link-arg=--pack-dyn-relocs=relr
# Where `make demo` listens.
ADDR = localhost:9000
# Where `make bench-peers` installs the servers that `make bench` compares with. Those in PATH are used as well.
PEERS = $${XDG_CACHE_HOME:-$$HOME/.cache}/scalesocket-peers
# Options for the load generator: `make bench BENCHFLAGS='--only fan-out --before OLD'`.
# `make bench FEATURES=tls` measures TLS as well.
BENCHFLAGS = --out benches/RESULTS.md

BINDIR = $(DESTDIR)$(PREFIX)/bin
MANDIR = $(DESTDIR)$(PREFIX)/share/man/man1
BASHDIR = $(DESTDIR)$(PREFIX)/share/bash-completion/completions
ZSHDIR = $(DESTDIR)$(PREFIX)/share/zsh/site-functions
FISHDIR = $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d

SCRIPTS = .ci/run benches/peers tests/house tests/it/certificates/make tests/system/prepare tests/system/static tests/system/programs/*.sh

.PHONY: build static static-target test test-system test-static bench bench-peers bench-smoke lint count \
	demo install uninstall clean help

build: ## build target/release/scalesocket
	$(CARGO) build --release --locked

static-target: ## install what `make static` needs, or say how
	@have() { dir=$$(rustc --print target-libdir --target $(TARGET) 2>/dev/null) && [ -d "$$dir" ]; }; \
	if have; then exit 0; fi; \
	echo "make: Rust's target $(TARGET) is not installed; trying: rustup target add $(TARGET)" >&2; \
	RUST_BACKTRACE=0 rustup target add $(TARGET) >&2 || true; \
	if have; then exit 0; fi; \
	echo "make: CANNOT INSTALL the target $(TARGET), so nothing is built." >&2; \
	echo "make: With rustup: 'rustup target add $(TARGET)', on a machine that reaches Rust's servers." >&2; \
	echo "make: Without it: your system's package of Rust's standard library for $(TARGET)." >&2; \
	exit 1

# Panic messages contain the file names of the dependencies. The prefix is removed, so that the binary does not
# show the builder's home directory and the same source gives the same binary everywhere. A directory with a space
# in its name is skipped: cargo splits the flags at spaces.
static: static-target ## build a static binary for $(TARGET) and check that it is static
	$(CARGO) fetch --quiet --locked --target $(TARGET)
	@flags="$${RUSTFLAGS-} $(STATICFLAGS)"; \
	for sources in "$${CARGO_HOME:-$$HOME/.cargo}"/registry/src/*/; do \
		case $$sources in *[[:space:]]*) ;; *) flags="$$flags --remap-path-prefix=$$sources=";; esac; \
	done; \
	case ' $(FEATURES) ' in *[\ ,]tls[\ ,]*) \
		compiler=$(STATICCC); \
		if [ -z "$$compiler" ]; then \
			echo 'make: NO C COMPILER, which the feature tls needs: install gcc, or name one with STATICCC=' >&2; \
			exit 1; \
		fi; \
		export "CC_$$(echo '$(TARGET)' | tr - _)=$$compiler";; \
	esac; \
	set -x; RUSTFLAGS="$$flags" $(CARGO) build --release --locked --target $(TARGET) \
		--no-default-features --features '$(FEATURES)'
	@built="$${CARGO_TARGET_DIR:-target}/$(TARGET)/release/scalesocket"; \
	tests/system/static "$$built" && \
	echo "$$built: static, $$(wc -c < "$$built" | tr -d ' ') bytes"

test: ## run the tests; only Rust and a shell are needed
	$(CARGO) test --quiet --locked -- --test-threads=$(TESTTHREADS)

test-system: ## run the tests with browsers, inetd, systemd and other websocket clients
	tests/system/prepare
	$(CARGO) build --quiet --locked
	.system/venv/bin/python tests/system/run.py

test-static: static ## run the static binary in an otherwise empty chroot; needs root
	python3 tests/system/chroot.py "$${CARGO_TARGET_DIR:-target}/$(TARGET)/release/scalesocket" $(TARGET)

bench: static ## compare the static binary with a baseline and the installed peers (20 minutes)
	$(CARGO) bench --quiet --locked --bench load -- --peers "$(PEERS)" \
		--server "$${CARGO_TARGET_DIR:-target}/$(TARGET)/release/scalesocket" $(BENCHFLAGS)

bench-smoke: build ## run each measurement once, briefly, to check that it works
	$(CARGO) bench --quiet --locked --bench load -- --smoke \
		--server "$${CARGO_TARGET_DIR:-target}/release/scalesocket"

bench-peers: ## install the servers that `make bench` compares with, under $(PEERS)
	benches/peers "$(PEERS)"

lint: ## check the format, the lints, the man pages and the scripts
	$(CARGO) fmt --check
	$(CARGO) clippy --quiet --locked --all-targets -- -D warnings
	@if command -v mandoc >/dev/null; then \
		echo 'mandoc -T lint -W warning man/*.1'; mandoc -T lint -W warning man/*.1; \
	else echo 'make: mandoc is not installed, the man pages are not checked' >&2; fi
	@for script in $(SCRIPTS); do sh -n "$$script" || exit 1; done
	@if command -v shellcheck >/dev/null; then \
		echo 'shellcheck $(SCRIPTS)'; shellcheck $(SCRIPTS); \
	else echo 'make: shellcheck is not installed, the scripts are only parsed' >&2; fi
	tests/house --self-test

count: ## count the lines of code, by directory and on the path of a message
	@tests/house

demo: build ## serve examples/chat; open it in two tabs
	@echo 'Open http://$(ADDR)/ in two tabs. Control-C ends it.'
	@"$${CARGO_TARGET_DIR:-target}/release/scalesocket" --addr $(ADDR) --frame=json --cache tagged:50 \
		--joinmsg '{"_to":#ID,"_join":#ID}' --leavemsg '{"_leave":#ID}' --staticdir examples/chat cat

# Does not call cargo if the binary exists, so that `make && sudo make install` builds as the user.
install: ## install the binary, its link, man pages and completions under $(DESTDIR)$(PREFIX)
	@if [ ! -x '$(BIN)' ]; then $(MAKE) build; fi
	umask 022; mkdir -p '$(BINDIR)' '$(MANDIR)' '$(BASHDIR)' '$(ZSHDIR)' '$(FISHDIR)'
	install -m 755 '$(BIN)' '$(BINDIR)/scalesocket'
	install -m 644 man/scalesocket.1 '$(MANDIR)/scalesocket.1'
	'$(BIN)' --completions bash > '$(BASHDIR)/scalesocket'
	'$(BIN)' --completions zsh > '$(ZSHDIR)/_scalesocket'
	'$(BIN)' --completions fish > '$(FISHDIR)/scalesocket.fish'
	chmod 644 '$(BASHDIR)/scalesocket' '$(ZSHDIR)/_scalesocket' '$(FISHDIR)/scalesocket.fish'
	@if [ -e '$(BINDIR)/websocketd' ] && [ "$$(readlink '$(BINDIR)/websocketd')" != scalesocket ]; then \
		echo 'make: $(BINDIR)/websocketd is another program and stays; scalesocket --websocketd is ours' >&2; \
	else \
		set -x; ln -sf scalesocket '$(BINDIR)/websocketd' && \
		install -m 644 man/websocketd.1 '$(MANDIR)/websocketd.1'; \
	fi

uninstall: ## remove what `make install` installed
	@if [ "$$(readlink '$(BINDIR)/websocketd')" = scalesocket ]; then \
		set -x; rm -f '$(BINDIR)/websocketd' '$(MANDIR)/websocketd.1'; \
	fi
	rm -f '$(BINDIR)/scalesocket' '$(MANDIR)/scalesocket.1' '$(BASHDIR)/scalesocket' \
		'$(ZSHDIR)/_scalesocket' '$(FISHDIR)/scalesocket.fish'

clean: ## remove what was built and what the system tests installed
	$(CARGO) clean
	rm -rf .system

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' Makefile | expand -t 16
