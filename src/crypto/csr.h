/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file crypto/csr.h
 * Certificate signing requests (RFC 2986) as RFC 8555 section 7.4 wants them.
 * Any thread; nothing blocks.
 */
#ifndef CRYPTO_CSR_H
#define CRYPTO_CSR_H

#include <apr_pools.h>
#include <apr_tables.h>
#include <openssl/evp.h>

#include "base/error.h"

/** One extra extension of the CSR (AutocertCSRExtension, Go's ExtraExtensions). */
typedef struct crypto_csr_extension_t {
    const char *oid;                /* dotted decimal */
    int critical;
    const unsigned char *value;     /* DER of the extension's value */
    apr_size_t len;
} crypto_csr_extension_t;

/**
 * Read an extension as an administrator writes it.
 * @param oid dotted decimal, optionally with ",critical"
 * @param hex an even number of hexadecimal digits
 * @param ext filled in, in the pool
 * @return NULL, or the sentence that says what is wrong and what to write
 */
const char *crypto_csr_extension_parse(crypto_csr_extension_t *ext, const char *oid,
                                       const char *hex, apr_pool_t *pool);

/**
 * Make the DER of a request signed with the key (SHA-256) for one identifier: a SAN
 * with that dNSName (CN too when it fits into 64 octets) or iPAddress, and the extensions. An
 * extension with the OID of the SAN replaces the generated one, as in Go.
 * @param extensions of crypto_csr_extension_t, may be NULL
 */
apr_status_t crypto_csr_der(unsigned char **der, apr_size_t *len, EVP_PKEY *key,
                            const char *name, const apr_array_header_t *extensions,
                            apr_pool_t *pool, base_error_t *err);

#endif
