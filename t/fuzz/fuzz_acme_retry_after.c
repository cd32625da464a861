/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/* First line: Retry-After; second: Date. The first is read as an RFC 3339 moment too. */
#include <stdint.h>
#include <string.h>

#include <apr_general.h>
#include <apr_strings.h>

#include "acme/client.h"

#define NOW apr_time_from_sec(1800000000)
#define YEAR apr_time_from_sec(365 * 24 * 3600)

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    static int ready;
    acme_http_response_t response = { 200, "https://ca.example/", NULL, 0, NULL };
    apr_pool_t *pool;
    apr_time_t t;
    char *text, *date;

    if (!ready) {
        apr_initialize();
        ready = 1;
    }
    apr_pool_create(&pool, NULL);
    text = apr_pstrmemdup(pool, (const char *)data, size);
    date = strchr(text, '\n');
    response.headers = apr_table_make(pool, 2);
    if (date != NULL) {
        *date++ = '\0';
        apr_table_addn(response.headers, "Date", date);
    }
    apr_table_addn(response.headers, "Retry-After", text);
    t = acme_http_retry_after(&response, NOW);
    if (t != 0 && (t < NOW || t > NOW + YEAR)) {
        __builtin_trap();
    }
    acme_client_time(text);
    apr_pool_destroy(pool);
    return 0;
}
