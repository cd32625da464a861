/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file crypto/pem.h
 * PEM texts (RFC 7468) block by block, as bundles and keys need them. Nothing
 * here ever asks for a passphrase. Any thread; nothing blocks.
 */
#ifndef CRYPTO_PEM_H
#define CRYPTO_PEM_H

#include <apr_pools.h>
#include <openssl/bio.h>

#include "base/error.h"

#define CRYPTO_PEM_BYTES_MAX (1024 * 1024)  /* of a text */

/** One block; only valid during the call that receives it, then overwritten. */
typedef struct crypto_pem_block_t {
    unsigned int index;         /* 0 for the first of the text */
    const char *label;          /* "EC PRIVATE KEY" */
    const char *headers;        /* RFC 1421 headers, "" without any */
    const unsigned char *der;
    long len;
} crypto_pem_block_t;

/** Receives a block. @return APR_SUCCESS to go on, APR_EOF to end the walk with
 * success, anything else (with err set) to fail */
typedef apr_status_t crypto_pem_fn(void *baton, const crypto_pem_block_t *block,
                                   base_error_t *err);

/**
 * Walk over all blocks of a text; text around them is skipped. Fails when the
 * text is too long, has a block that is damaged or not whole (a BEGIN line cut
 * off at the end counts), or has none.
 */
apr_status_t crypto_pem_walk(const char *pem, apr_size_t len, crypto_pem_fn *fn, void *baton,
                             base_error_t *err);

/** Copy what stands in a memory BIO into the pool with a NUL after it,
 * overwritten with zeros when the pool ends. @param len not counting the NUL */
apr_status_t crypto_pem_copy(char **pem, apr_size_t *len, BIO *from, apr_pool_t *pool,
                             base_error_t *err);

#endif
