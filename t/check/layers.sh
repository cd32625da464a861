#!/bin/bash
# Includes point downwards only, and each library has its one owner.
set -u
cd "${1:-$(dirname "$0")/../..}" || exit 1
awk '
BEGIN {
    count = split("base crypto shared cache acme challenge manager serve httpd", order, " ")
    for (i = 1; i <= count; i++)
        rank[order[i]] = i
    # Files at the top: the module and the tools see everything, the public header nothing.
    top = count + 1
    bad = 0
}
function complain(text) { printf "%s:%d: %s\n", FILENAME, FNR, text; bad++ }
FNR == 1 {
    parts = split(FILENAME, part, "/")
    folder = (parts >= 3 && part[1] == "src") ? part[2] : ""
    if (folder != "" && !(folder in rank))
        complain("the folder " folder " has no place in the order of layers")
    public = FILENAME == "src/mod_autocert.h"
    level = folder == "" ? top : rank[folder]
    files++
}
!/^[ \t]*#[ \t]*include/ { next }
{
    name = $0
    sub(/^[ \t]*#[ \t]*include[ \t]*/, "", name)
    quoted = substr(name, 1, 1) == "\""
    sub(/^["<]/, "", name)
    sub(/[">].*/, "", name)
    includes++
    if (public && name !~ /^apr_[a-z_]*\.h$/)
        complain("the public header includes " name ", and it may include only APR")
    split(name, in_parts, "/")
    if (in_parts[1] in rank && name ~ /\//) {
        if (rank[in_parts[1]] > level)
            complain(folder " includes " name ", which is above it")
    } else if (quoted && name ~ /^\.\.?\//) {
        complain("write the include from src/: " name)
    }
    if (name ~ /^(httpd|http_[a-z_]+|ap_[a-z_]+|mod_ssl[a-z_]*|mod_watchdog|mod_status|mod_core|scoreboard|mpm_common|util_[a-z_]+)\.h$/ &&
        folder != "httpd" && FILENAME != "mod_autocert.c")
        complain("only src/httpd and mod_autocert.c know httpd: " name)
    if (name ~ /^curl\// && FILENAME != "src/acme/http.c")
        complain("only src/acme/http.c knows curl: " name)
    if (name ~ /^jansson\.h$/ && FILENAME !~ /^src\/base\/json\.[ch]$/ && folder != "acme")
        complain("JSON is for base/json and acme: " name)
    if (name ~ /^idn2\.h$/ && folder != "base")
        complain("only src/base knows libidn2: " name)
}
END {
    if (bad) {
        printf "layers: %d wrong\n", bad
        exit 1
    }
    printf "layers: ok (%d includes in %d files)\n", includes, files
    if (!files)
        exit 1
}' $(find src mod_autocert.c -name '*.[ch]' 2>/dev/null | sort) </dev/null
