/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/* Link headers and references as a CA may send them; one header in each line. */
#include <stdint.h>
#include <string.h>

#include <apr_general.h>
#include <apr_strings.h>

#include "acme/http.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    static const char *const rels[] = { "alternate", "up", "" };
    static int ready;
    acme_http_response_t response = { 200, "https://ca.example/acme/new", NULL, 0, NULL };
    apr_pool_t *pool;
    char *text, *line, *next;
    size_t i;

    if (!ready) {
        apr_initialize();
        ready = 1;
    }
    apr_pool_create(&pool, NULL);
    text = apr_pstrmemdup(pool, (const char *)data, size);
    response.headers = apr_table_make(pool, 4);
    for (line = text; line != NULL; line = next) {
        const char *url;

        next = strchr(line, '\n');
        if (next != NULL) {
            *next++ = '\0';
        }
        apr_table_addn(response.headers, "Link", line);
        url = acme_http_resolve(&response, line, pool);
        if (url != NULL && !acme_http_url_is_usable(url)) {
            __builtin_trap();
        }
    }
    for (i = 0; i < sizeof(rels) / sizeof(rels[0]); i++) {
        const char *url = acme_http_link(&response, rels[i], pool);

        if (url != NULL && !acme_http_url_is_usable(url)) {
            __builtin_trap();
        }
    }
    apr_pool_destroy(pool);
    return 0;
}
