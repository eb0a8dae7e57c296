#!/bin/sh
# Checks that every file is the one that was packed, and that what runs here answers as the workstation did.
# Exit status 0 where it does, 1 where it does not.
#
#   ./self-test.sh               everything; needs the engine (./build.sh) or ONNX Runtime
#   ./self-test.sh --files-only  the files and, where Python 3.8 has NumPy and Pillow, how images are prepared
set -eu
cd -- "$(dirname -- "$0")"

ENGINE=@ENGINE@
# Signal over difference that the engine's scores must keep, in dB.
MIN_SQNR=@MIN_SQNR@

say() { printf '%s\n' "self-test.sh: $*"; }

fail() {
    printf '%s\n' "self-test.sh: FAILED: $*" >&2
    exit 1
}

python_is_usable() {
    python3 -c 'import sys, numpy, PIL; sys.exit(sys.version_info < (3, 8))' >/dev/null 2>&1
}

# TensorRT's Python package runs an engine only beside one of CUDA's, which no JetPack brings.
python_has_tensorrt() {
    for cuda in cuda.bindings.runtime cuda.cudart pycuda.driver; do
        python3 -c "import tensorrt, $cuda" >/dev/null 2>&1 && return 0
    done
    return 1
}

find_trtexec() {
    for candidate in trtexec /usr/src/tensorrt/bin/trtexec; do
        command -v "$candidate" && return 0
    done
    return 1
}

# Reads the expected scores, one per line, then trtexec's JSON; the same class and close scores, or status 1.
compare() {
    awk -v output='@OUTPUT@' -v needed="$MIN_SQNR" '
        FNR == NR { expected[NR] = $1; count = NR; next }
        /"name"/ { wanted = index($0, "\"" output "\"") > 0 }
        wanted && /"values"/ {
            sub(/^[^[]*\[ */, "")
            sub(/ *\].*$/, "")
            found = split($0, given, /, */)
        }
        END {
            if (found != count) {
                printf "%d scores instead of %d\n", found, count
                exit 1
            }
            best = here = 1
            for (number = 1; number <= count; number++) {
                if (expected[number] + 0 > expected[best] + 0) best = number
                if (given[number] + 0 > given[here] + 0) here = number
                signal += expected[number] ^ 2
                noise += (expected[number] - given[number]) ^ 2
            }
            sqnr = noise > 0 ? 10 * log(signal / noise) / log(10) : 999
            printf "class %d, on the workstation %d; scores at %.1f dB, %s needed\n", here - 1, best - 1, sqnr, needed
            exit !(best == here && sqnr >= needed + 0)
        }' "$1" "$2"
}

test_with_trtexec() {
    status=0
    for number in @NUMBERS@; do
        "$1" --loadEngine="$ENGINE" --loadInputs="@INPUT@:golden/trtexec/$number.bin" @SHAPES@ \
            --iterations=1 --warmUp=0 --duration=0 --exportOutput=on-device/output.json \
            >on-device/test.log 2>&1 || fail "trtexec cannot run $ENGINE; its log is on-device/test.log"
        printf 'golden image %s: ' "$number"
        compare "golden/trtexec/$number.txt" on-device/output.json || status=1
    done
    [ "$status" -eq 0 ] || fail "the engine does not answer as the workstation did"
    say "the engine answers as the workstation did"
}

case "${1:-}" in
    '' | --files-only) ;;
    *) fail "unknown option $1; usage: ./self-test.sh [--files-only]" ;;
esac

command -v sha256sum >/dev/null 2>&1 || fail "sha256sum is not here (package coreutils)"
sha256sum --check --strict --quiet SHA256SUMS || fail "a file is missing or was altered; copy the bundle again"
say "every file is as it was packed"

if [ "${1:-}" = --files-only ]; then
    if python_is_usable; then
        exec python3 googlenet-device.pyz selftest . --files-only
    fi
    exit 0
fi

if [ -f "$ENGINE" ] && ! { python_is_usable && python_has_tensorrt; }; then
    trtexec=$(find_trtexec) || fail "neither trtexec nor Python 3.8 with TensorRT and CUDA (PyCUDA) is here to run $ENGINE"
    test_with_trtexec "$trtexec"
elif python_is_usable; then
    exec python3 googlenet-device.pyz selftest .
else
    fail "there is nothing to test yet: build the engine with ./build.sh"
fi
