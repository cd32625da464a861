#!/bin/bash
# Every fault of the list (F01 to F48: what CAs and networks were seen to do) has a test that names it, or a
# line in t/faults-not-applicable.txt that says why there is none; and not both.
set -u
cd "${1:-$(dirname "$0")/../..}" || exit 1
faults=48
excused_file=t/faults-not-applicable.txt
failed=0
shopt -s nullglob

complain() {
    echo "faults: $*"
    failed=1
}

tested=$(grep -ohE '\bF[0-9]{2}\b' t/*.t t/long/*.t t/unit/*.c 2>/dev/null | sort -u)
[ -n "$tested" ] || complain "no test names a fault"
excused=$(sed -nE 's/^(F[0-9]{2}) +[^ ].*$/\1/p' "$excused_file" 2>/dev/null)
while IFS= read -r line; do
    [[ $line =~ ^(#|$|F[0-9]{2}\ +[^\ ]) ]] || complain "$excused_file: not \"F00 reason\": $line"
done <"$excused_file"
for name in $(sort <<<"$excused" | uniq -d); do
    complain "$excused_file has $name twice"
done

known=$(for ((n = 1; n <= faults; n++)); do printf 'F%02d\n' "$n"; done)
for name in $known; do
    is_tested=$(grep -cxF "$name" <<<"$tested")
    is_excused=$(grep -cxF "$name" <<<"$excused")
    if [ "$is_tested" -eq 0 ] && [ "$is_excused" -eq 0 ]; then
        complain "no test names $name, and $excused_file does not say why"
    elif [ "$is_tested" -gt 0 ] && [ "$is_excused" -gt 0 ]; then
        complain "$excused_file has $name, which a test names"
    fi
done
for name in $tested $excused; do
    grep -qxF "$name" <<<"$known" || complain "there is no fault $name"
done
[ $failed -eq 0 ] || exit 1
echo "faults: ok ($(wc -w <<<"$tested") tested, $(wc -w <<<"$excused") that do not apply)"
