/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/*
 * What a CA sends as a chain. The input begins with the PEM of our key, so that a
 * corpus entry can hold certificates for it; the chain is all that follows.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <apr_general.h>

#include "crypto/bundle.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

static const char KEY_END[] = "-----END EC PRIVATE KEY-----\n";
static const apr_time_t NOW = APR_TIME_C(1800000000) * APR_USEC_PER_SEC;

/* What was accepted is a file that serves the name. */
static void judge(const crypto_bundle_t *bundle, apr_pool_t *pool)
{
    crypto_bundle_t *again = NULL;
    char *pem = NULL;
    apr_size_t len = 0;

    if (!crypto_bundle_covers(bundle->leaf, "www.example.org") || NOW > bundle->not_after
        || sk_X509_num(bundle->chain) >= CRYPTO_BUNDLE_CHAIN_MAX
        || crypto_bundle_write(bundle, &pem, &len, pool, NULL) != APR_SUCCESS
        || (len <= CRYPTO_BUNDLE_BYTES_MAX
            && crypto_bundle_parse(&again, pem, len, NULL) != APR_SUCCESS))
        abort();
    crypto_bundle_free(again);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    const unsigned char *end = memmem(data, size, KEY_END, sizeof(KEY_END) - 1);
    size_t key_len = end ? (size_t)(end - data) + sizeof(KEY_END) - 1 : 0;
    crypto_bundle_t *bundle = NULL;
    apr_pool_t *pool = NULL;
    EVP_PKEY *key = NULL;

    apr_initialize();
    apr_pool_create(&pool, NULL);
    if (crypto_key_read(&key, (const char *)data, key_len, NULL) != APR_SUCCESS
        && crypto_key_generate(&key, CRYPTO_KEY_P256, NULL) != APR_SUCCESS)
        abort();
    if (crypto_bundle_from_ca(&bundle, key, (const char *)data + key_len, size - key_len,
                              "www.example.org", NOW, NULL) == APR_SUCCESS)
        judge(bundle, pool);
    crypto_bundle_free(bundle);
    EVP_PKEY_free(key);
    apr_pool_destroy(pool);
    apr_terminate();
    return 0;
}
