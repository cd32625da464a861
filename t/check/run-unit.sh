#!/bin/bash
# run-unit.sh DIRECTORY PROGRAM...
# Runs cmocka programs one by one, shows the summary of each and the whole output of those that fail.
# Last line: "unit: N passed, N failed". A program that crashes, hangs or runs no test at all is one
# failure: its own count cannot be trusted.
set -u
cd "$(dirname "$0")/../.." || exit 1
dir=$1
shift
passed=0 failed=0
if [ $# -eq 0 ]; then
    echo "unit: there are no tests in t/unit" >&2
    exit 1
fi
export ASAN_OPTIONS=${ASAN_OPTIONS-detect_leaks=1:strict_string_checks=1:detect_stack_use_after_return=1}
export UBSAN_OPTIONS=${UBSAN_OPTIONS-print_stacktrace=1:halt_on_error=1}
export TSAN_OPTIONS=${TSAN_OPTIONS-halt_on_error=0:exitcode=66:suppressions=$PWD/t/check/tsan.supp}

# ThreadSanitizer of older compilers cannot live with as many random address bits as newer kernels
# use ("unexpected memory mapping"), so its programs run without randomisation where that is allowed.
prefix=()
case $dir in
    *tsan*) setarch "$(uname -m)" -R true 2>/dev/null && prefix=(setarch "$(uname -m)" -R) ;;
esac

count() { # PATTERN: the number before "test(s)" of the last line with the pattern
    printf '%s\n' "$output" | sed -n "s/^\[  $1  \] \([0-9][0-9]*\) test(s).*/\1/p" | tail -n 1
}

for program in "$@"; do
    output=$(timeout -k 5 "${UNIT_TIMEOUT:-120}" ${prefix[@]+"${prefix[@]}"} "$dir/$program" 2>&1 </dev/null)
    status=$?
    good=$(count PASSED)
    bad=$(count FAILED)
    if [ $status -eq 0 ] && [ "${good:-0}" -gt 0 ] && [ "${bad:-0}" -eq 0 ]; then
        passed=$((passed + good))
        echo "ok $program: $good passed"
    else
        printf '%s\n' "$output" | tail -n 80
        [ "${bad:-0}" -gt 0 ] || bad=1
        passed=$((passed + ${good:-0}))
        failed=$((failed + bad))
        case $status in
            124 | 137) why="no end after ${UNIT_TIMEOUT:-120} s" ;;
            *) why="status $status" ;;
        esac
        echo "not ok $program: ${good:-0} passed, $bad failed ($why)"
    fi
done
echo "unit: $passed passed, $failed failed"
exit $((failed > 0))
