#!/bin/sh
# Installs what building and testing need on Debian or Ubuntu, and nothing when all is there.
# clang and libclang compile RocksDB and its bindings; in the tests ffmpeg makes and reads footage, GStreamer is the camera, and
# curl and openssl enrol.
# With --ci also promtool, which checks metrics and alert rules; its package brings the service prometheus along; and npm, with which a
# test gets an OpenID provider to sign in with; and Python's cryptography, with which a second verifier reads bundles.
set -eu

fail() {
    echo "setup: $*" >&2
    exit 1
}

command -v cargo >/dev/null || fail "Rust is missing: install it from https://rustup.rs and open a new shell"

missing=""
need() { # command, package
    command -v "$1" >/dev/null || missing="$missing $2"
}
need clang clang
need clang++ clang
need curl curl
need ffmpeg ffmpeg
need ffprobe ffmpeg
need make make
need openssl openssl
need pkg-config pkg-config
[ "${1:-}" = "--ci" ] && need promtool prometheus
[ "${1:-}" = "--ci" ] && need npm npm
[ "${1:-}" = "--ci" ] && need python3 python3
if [ "${1:-}" = "--ci" ] && ! /usr/bin/python3 -c 'import cryptography, tomllib' 2>/dev/null; then
    missing="$missing python3-cryptography"
fi
if ! ls /usr/lib/llvm-*/lib/libclang*.so* /usr/lib/*/libclang*.so* >/dev/null 2>&1; then
    missing="$missing libclang-dev"
fi
if ! /usr/bin/python3 -c 'import gi; gi.require_version("GstRtspServer", "1.0")' 2>/dev/null; then
    missing="$missing gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-good python3-gi"
fi
[ -n "$missing" ] || exit 0

packages=$(printf '%s\n' $missing | sort -u | tr '\n' ' ')
command -v apt-get >/dev/null || fail "please install by hand: $packages(only Debian and Ubuntu are done by this script)"
as_root=""
if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || fail "run as root, or install sudo, to install: $packages"
    as_root="sudo"
fi

echo "setup: installing $packages"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
quietly() {
    $as_root env DEBIAN_FRONTEND=noninteractive "$@" >"$log" 2>&1 || {
        tail -n 20 "$log" >&2
        fail "'$*' failed"
    }
}
quietly apt-get -o DPkg::Lock::Timeout=300 update
# shellcheck disable=SC2086
quietly apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends $packages
