#!/bin/bash
# symbols.sh MODULE HTTPD: the module exports its record and nothing else, and what it needs is there.
set -u
module=$1 httpd=$2
exported=$(nm -D --defined-only "$module" | awk '$2 != "A" { print $3 }')
if [ "$exported" != autocert_module ]; then
    echo "symbols: $module must export autocert_module alone, it exports:"
    printf '%s\n' "${exported:-(nothing)}" | sed 's/^/  /'
    exit 1
fi

# A module is linked without the server, so the linker cannot find a misspelt or newer httpd function.
if ! needed=$(ldd -r "$module" 2>&1); then
    echo "symbols: ldd -r $module failed:"
    printf '%s\n' "$needed"
    exit 1
fi
lost=$(comm -23 \
    <(printf '%s\n' "$needed" | sed -n 's/^undefined symbol:[[:space:]]*\([^[:space:]]*\).*/\1/p' | sort -u) \
    <(nm -D --defined-only "$httpd" | awk '{ sub(/@.*/, "", $3); print $3 }' | sort -u))
if [ -n "$lost" ]; then
    echo "symbols: neither $httpd nor a linked library has:"
    printf '%s\n' "$lost" | sed 's/^/  /'
    exit 1
fi
echo "symbols: ok"
