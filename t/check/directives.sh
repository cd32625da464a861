#!/bin/bash
# What an administrator sees is written down: every directive and every id of a log line.
set -u
cd "${1:-$(dirname "$0")/../..}" || exit 1
failed=0
shopt -s nullglob
glue=(mod_autocert.c src/httpd/*.c)
code=(mod_autocert.c src/*/*.[ch])

# A directive of a command table: the macro and then the name, perhaps on the next line.
directives=$(cat "${glue[@]}" 2>/dev/null | tr '\n' ' ' |
    grep -oE 'AP_INIT_[A-Z0-9_]+\([[:space:]]*"Autocert[A-Z][A-Za-z0-9]*"|[{(][[:space:]]*"Autocert[A-Z][A-Za-z0-9]*"' |
    grep -oE 'Autocert[A-Z][A-Za-z0-9]*' | sort -u)
if [ -z "$directives" ]; then
    echo "directives: no command table found in src/httpd"
    failed=1
fi
for name in $directives; do
    if ! grep -qE "^#+ .*\b$name\b" docs/directives.md 2>/dev/null; then
        echo "directives: docs/directives.md has no section for $name"
        failed=1
    fi
done
described=$(grep -oE '^#+ .*' docs/directives.md 2>/dev/null | grep -oE '\bAutocert[A-Z][A-Za-z0-9]*' | sort -u)
for name in $described; do
    if ! grep -qxF "$name" <<<"$directives"; then
        echo "directives: docs/directives.md describes $name, which does not exist"
        failed=1
    fi
done

ids=$(grep -ohE '"AC[0-9]{4}\b' "${code[@]}" 2>/dev/null | tr -d '"' | sort -u)
for id in $ids; do
    if ! grep -q "\b$id\b" docs/operations.md 2>/dev/null; then
        echo "directives: docs/operations.md does not list $id"
        failed=1
    fi
done
listed=$(grep -ohE '\bAC[0-9]{4}\b' docs/operations.md 2>/dev/null | sort -u)
for id in $listed; do
    if ! grep -qxF "$id" <<<"$ids"; then
        echo "directives: docs/operations.md lists $id, which nothing logs"
        failed=1
    fi
done
[ $failed -eq 0 ] || exit 1
echo "directives: ok ($(wc -w <<<"$directives") directives, $(wc -w <<<"$ids") log ids)"
