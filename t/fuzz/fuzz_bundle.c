/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/* A cache file that anybody may have written: parse, judge, write, parse again. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <apr_general.h>

#include "crypto/bundle.h"
#include "crypto/challenge_cert.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

static const apr_time_t NOW = APR_TIME_C(1800000000) * APR_USEC_PER_SEC;

/* What was accepted can be written, and what was written is accepted. */
static void write_and_read(const crypto_bundle_t *bundle, apr_pool_t *pool)
{
    crypto_bundle_t *again = NULL;
    char *pem = NULL;
    apr_size_t len = 0;

    if (crypto_bundle_write(bundle, &pem, &len, pool, NULL) != APR_SUCCESS)
        abort();
    if (len <= CRYPTO_BUNDLE_BYTES_MAX
        && (crypto_bundle_parse(&again, pem, len, NULL) != APR_SUCCESS
            || X509_cmp(again->leaf, bundle->leaf) != 0))
        abort();
    crypto_bundle_free(again);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    crypto_bundle_t *bundle = NULL;
    apr_pool_t *pool = NULL;
    base_error_t err;

    apr_initialize();
    apr_pool_create(&pool, NULL);
    if (crypto_bundle_parse(&bundle, (const char *)data, size, &err) == APR_SUCCESS) {
        crypto_bundle_check(bundle, "www.example.org", 0, NOW, &err);
        crypto_bundle_check(bundle, "www.example.org", 1, NOW, NULL);
        crypto_challenge_cert_is(bundle->leaf);
        write_and_read(bundle, pool);
    }
    else if (strlen(err.detail) >= sizeof(err.detail) || err.status == APR_SUCCESS) {
        abort();
    }
    crypto_bundle_free(bundle);
    apr_pool_destroy(pool);
    apr_terminate();
    return 0;
}
