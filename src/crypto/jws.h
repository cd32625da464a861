/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file crypto/jws.h
 * Flattened JWS (RFC 7515 section 7.2.2) with ES256, ES384 and RS256, JWK (RFC 7517,
 * 7518 section 6) and its thumbprint (RFC 7638), as RFC 8555 section 6.2 uses them. Any thread;
 * nothing blocks.
 */
#ifndef CRYPTO_JWS_H
#define CRYPTO_JWS_H

#include <apr_pools.h>
#include <openssl/evp.h>

#include "base/error.h"

/** The public key as JWK: required members only, in lexical order, no blanks;
 * in the pool. NULL when the key is not RSA, P-256 or P-384. */
const char *crypto_jws_jwk(EVP_PKEY *key, apr_pool_t *pool);

/** base64url of SHA-256 over that JWK; NULL likewise. */
const char *crypto_jws_thumbprint(EVP_PKEY *key, apr_pool_t *pool);

/** "ES256", "ES384" or "RS256"; NULL for other keys. */
const char *crypto_jws_algorithm(EVP_PKEY *key);

/** What goes into the protected header besides alg. */
typedef struct crypto_jws_header_t {
    const char *nonce;  /* may be NULL: then there is no nonce member */
    const char *url;    /* the exact string that is requested */
    const char *kid;    /* account URL; NULL: the jwk stands in the header instead */
} crypto_jws_header_t;

/**
 * Sign. @param payload JSON text; "" is POST-as-GET (RFC 8555 section 6.3)
 * @param jws set to the text of the JWS, in the pool
 */
apr_status_t crypto_jws_sign(const char **jws, EVP_PKEY *key, const crypto_jws_header_t *header,
                             const char *payload, apr_pool_t *pool, base_error_t *err);

/** Is this a MAC key as CAs give them out: base64url or base64, padded or not? Pure. */
int crypto_jws_is_mac_key(const char *text);

/**
 * An external account binding (RFC 8555 section 7.3.4): a JWS with HS256 over the account's JWK.
 * @param mac_key as crypto_jws_is_mac_key() has it
 * @return err (kind OPERATOR) when it is none
 */
apr_status_t crypto_jws_sign_binding(const char **jws, EVP_PKEY *account, const char *kid,
                                     const char *mac_key, const char *url, apr_pool_t *pool,
                                     base_error_t *err);

#endif
