#!/bin/bash
# What a compiler does not say about the C files: banned calls, lengths, tabs, headers without words.
set -u
cd "${1:-$(dirname "$0")/../..}" || exit 1
failed=0
mapfile -t sources < <(find mod_autocert.c src t/unit t/fuzz t/bench t/modules t/tools -name '*.[ch]' 2>/dev/null | sort)
mapfile -t headers < <(find src -name '*.h' | sort)

report() { # TEXT LINES
    [ -n "$2" ] || return 0
    printf 'style: %s:\n%s\n' "$1" "$2" | sed '2,$s/^/  /'
    failed=$((failed + 1))
}

# Comments and strings may name such a function; code may not. Line numbers stay as they are.
code_of() {
    perl -0777 -pe 's{(/\*.*?\*/)|("(?:\\.|[^"\\\n])*")|(\x27(?:\\.|[^\x27\\\n])*\x27)}
        {my $t = $&; $t =~ s/[^\n]/ /g; $t}gsex' "$1"
}

banned='strcpy|strcat|sprintf|vsprintf|gets|strtok|system|popen|atoi|atol|alloca|tmpnam|mktemp'
hits=
for file in "${sources[@]}"; do
    found=$(code_of "$file" | grep -nE "(^|[^A-Za-z0-9_>.])($banned)[[:space:]]*\(" | sed "s|^|$file:|")
    [ -z "$found" ] || hits+="$found"$'\n'
done
report "banned calls" "${hits%$'\n'}"

report "longer than 110 columns" \
    "$(awk 'length($0) > 110 { print FILENAME ":" FNR ": " length($0) " columns" }' "${sources[@]}")"
report "tabs" "$(grep -nP '\t' "${sources[@]}" | sed 's/:\([0-9]*\):.*/:\1/')"
report "white space at the end" "$(grep -nP '[ \t\r]+$' "${sources[@]}" | sed 's/:\([0-9]*\):.*/:\1/')"
report "unfinished business" "$(grep -nE '\b(TODO|FIXME|XXX)\b' "${sources[@]}")"
report "no licence line" "$(for file in "${sources[@]}"; do
    head -n 1 "$file" | grep -q '^/\* Licensed under the Apache License, Version 2.0' || echo "$file"
done)"
report "assert() outside tests" \
    "$(grep -nE '^[^"]*\b(ap_assert|ap_debug_assert|assert)[[:space:]]*\(' mod_autocert.c src/*/*.c 2>/dev/null)"

# A function starts with "{" in the first column and ends with "}" there; the line with the name counts.
report "functions of more than 80 lines" "$(awk '
    FNR == 1 { start = 0; head = "" }
    /^[A-Za-z_].*\(/ && !/;[ \t]*$/ && !/^#/ { head = $0; at = FNR }
    /^\{/ { start = at ? at : FNR }
    /^\}/ { if (start && FNR - start + 1 > 80) { sub(/\(.*/, "", head); sub(/.*[ *]/, "", head)
                print FILENAME ":" start ": " head " has " FNR - start + 1 " lines" } start = 0; at = 0 }
    ' $(printf '%s\n' "${sources[@]}" | grep '\.c$'))"

# Above every prototype stands a comment, or a prototype that has one, with no empty line between.
report "prototypes without a comment above" "$(awk '
    FNR == 1 { commented = 0; inside = 0; depth = 0 }
    inside { if (/\*\//) inside = 0; next }
    /^[ \t]*$/ { commented = 0; next }
    /^#/ { next }
    /^[ \t]*\/\*/ { commented = 1; inside = !/\*\//; next }
    depth == 0 && /^[A-Za-z_][A-Za-z0-9_ *]*[ *][a-z_0-9]+\(/ && !/^(typedef|static|extern "C")/ {
        if (!commented) print FILENAME ":" FNR ": " $0
    }
    /^extern "C"/ { next }
    { depth += gsub(/\{/, "{") - gsub(/\}/, "}"); if (depth < 0) depth = 0 }
    ' "${headers[@]}")"

if [ $failed -gt 0 ]; then
    echo "style: $failed kinds of trouble"
    exit 1
fi
echo "style: ok (${#sources[@]} files)"
