#!/bin/sh
# Builds this bundle's TensorRT engine on the device, then holds it against the workstation's answers.
# Made by googlenet-deploy @VERSION@ for @TITLE@, precision @PRECISION@.
#
#   ./build.sh               by googlenet-device.pyz where Python 3.8 or later has TensorRT, else by trtexec
#   ./build.sh --trtexec     by trtexec in any case
#   ./build.sh --candidates  an engine of every precision, among which tune chooses; by googlenet-device.pyz alone
set -eu
cd -- "$(dirname -- "$0")"

ENGINE=@ENGINE@

say() { printf '%s\n' "build.sh: $*"; }

fail() {
    printf '%s\n' "build.sh: error: $*" >&2
    exit 1
}

python_has_tensorrt() {
    python3 -c 'import sys, numpy, PIL, tensorrt; sys.exit(sys.version_info < (3, 8))' >/dev/null 2>&1
}

find_trtexec() {
    for candidate in trtexec /usr/src/tensorrt/bin/trtexec; do
        command -v "$candidate" && return 0
    done
    return 1
}

# JetPack installs TensorRT as Debian packages, so their version is that of the library.
tensorrt_version() {
    for package in libnvinfer10 libnvinfer8 libnvinfer-bin; do
        found=$(dpkg-query --showformat='${Version}' --show "$package" 2>/dev/null) || continue
        [ -n "$found" ] && printf '%s' "$found" && return 0
    done
    return 1
}

build_with_python() {
    say "building with googlenet-device.pyz"
    python3 googlenet-device.pyz build @PYTHON_ARGUMENTS@ --output "$ENGINE" --timing-cache on-device/timing.cache
}

# A precision that this device or TensorRT cannot build is said and left out.
built=
candidate() {
    name=$1
    shift
    say "building on-device/$name.engine"
    if python3 googlenet-device.pyz build "$@" --output "on-device/$name.engine" --timing-cache on-device/timing.cache
    then
        built="$built $name"
    else
        say "on-device/$name.engine is left out: it could not be built"
    fi
}

build_candidates() {
    python_has_tensorrt || fail "--candidates needs Python 3.8 or later with NumPy, Pillow and TensorRT"
@CANDIDATES@
}

build_with_trtexec() {
    trtexec=$(find_trtexec) || fail "neither Python 3.8 with TensorRT nor trtexec is here: apt-get install tensorrt"
    version=$(tensorrt_version) || fail "TensorRT's version is not known: dpkg-query finds no libnvinfer package"
    case "$version" in
@RECIPES@
        *) fail "TensorRT $version is not among those this bundle was made for (@TENSORRT@)" ;;
    esac
    say "building with $trtexec for TensorRT $version; the log is on-device/build.log"
    "$trtexec" "$@" >on-device/build.log 2>&1 || {
        tail -n 20 on-device/build.log >&2
        fail "trtexec failed; the whole log is on-device/build.log"
    }
    [ -s on-device/new.engine ] || fail "trtexec wrote no engine; its log is on-device/build.log"
    mv on-device/new.engine "$ENGINE"
}

builder=auto
case "${1:-}" in
    '') ;;
    --trtexec) builder=trtexec ;;
    --candidates) builder=candidates ;;
    *) fail "unknown option $1; usage: ./build.sh [--trtexec | --candidates]" ;;
esac

./self-test.sh --files-only
mkdir -p on-device
if [ "$builder" = candidates ]; then
    build_candidates
    [ -n "$built" ] || fail "not one engine could be built"
    say "done:$built; choose among them: python3 googlenet-device.pyz tune ."
    exit 0
fi
if [ "$builder" = auto ] && python_has_tensorrt; then
    build_with_python
else
    build_with_trtexec
fi
./self-test.sh
say "done: $ENGINE"
