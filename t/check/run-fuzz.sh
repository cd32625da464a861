#!/bin/bash
# run-fuzz.sh replay|run DIRECTORY TARGET...
# replay: every corpus file once. run: FUZZ_SECONDS of libFuzzer for each; new inputs go to DIRECTORY,
# findings too, the corpus in the tree is only read.
set -u
cd "$(dirname "$0")/../.." || exit 1
mode=$1 dir=$2
shift 2
failed=0
if [ $# -eq 0 ]; then
    echo "fuzz: there are no targets in t/fuzz" >&2
    exit 1
fi
for target in "$@"; do
    corpus=t/fuzz/corpus/${target#fuzz_}
    if ! compgen -G "$corpus/*" >/dev/null; then
        echo "not ok $target: $corpus has no seed input"
        failed=$((failed + 1))
        continue
    fi
    if [ "$mode" = replay ]; then
        output=$(timeout 120 "$dir/$target" "$corpus"/* 2>&1)
    else
        mkdir -p "$dir/corpus-$target"
        output=$(timeout $((FUZZ_SECONDS + 60)) "$dir/$target" -max_total_time="$FUZZ_SECONDS" \
            -artifact_prefix="$dir/$target-" "$dir/corpus-$target" "$corpus" 2>&1)
    fi
    status=$?
    if [ $status -eq 0 ]; then
        echo "ok $target: $(printf '%s\n' "$output" | tail -n 1)"
    else
        printf '%s\n' "$output" | tail -n 60
        echo "not ok $target: status $status"
        failed=$((failed + 1))
    fi
done
exit $((failed > 0))
