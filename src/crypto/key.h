/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file crypto/key.h
 * Private keys: kinds, making, and the PEM form that Go's autocert writes and
 * reads. Any thread; making an RSA key takes up to seconds of CPU, nothing else
 * blocks. Keys are freed by the caller with EVP_PKEY_free().
 */
#ifndef CRYPTO_KEY_H
#define CRYPTO_KEY_H

#include <apr_pools.h>
#include <openssl/evp.h>

#include "base/error.h"
#include "crypto/pem.h"

typedef enum {
    CRYPTO_KEY_P256,
    CRYPTO_KEY_P384,
    CRYPTO_KEY_RSA2048,
    CRYPTO_KEY_RSA3072,
    CRYPTO_KEY_RSA4096,
    CRYPTO_KEY_TYPES            /* how many there are */
} crypto_key_type_t;

/** Find a type by any usual spelling, case ignored: p256, P-256, secp256r1,
 * prime256v1, rsa2048, rsa-2048, ... @return non-zero when found */
int crypto_key_type_find(crypto_key_type_t *type, const char *spelling);

/** The spelling we print: "p256". */
const char *crypto_key_type_name(crypto_key_type_t type);

/** Non-zero for the RSA types; their cache key ends with "+rsa". */
int crypto_key_type_is_rsa(crypto_key_type_t type);

/** Make a new key. */
apr_status_t crypto_key_generate(EVP_PKEY **key, crypto_key_type_t type, base_error_t *err);

/** Non-zero for RSA keys, zero for EC keys. */
int crypto_key_is_rsa(const EVP_PKEY *key);

/** Non-zero when the key is exactly of this type (algorithm, curve, size). */
int crypto_key_is(const EVP_PKEY *key, crypto_key_type_t type);

/**
 * Read the first private key of a PEM text: SEC 1, PKCS #1 or PKCS #8, RSA
 * (2048 to 8192 bits) or EC on P-256, P-384 or P-521, not encrypted; never asks
 * for a passphrase. Text before it is skipped.
 */
apr_status_t crypto_key_read(EVP_PKEY **key, const char *pem, apr_size_t len, base_error_t *err);

/**
 * The same from one block of a PEM text (RFC 7468), whatever its label says;
 * refuses a block that is encrypted.
 */
apr_status_t crypto_key_from_block(EVP_PKEY **key, const crypto_pem_block_t *block,
                                   base_error_t *err);

/** Append the traditional PEM form (SEC 1 without EC PARAMETERS, PKCS #1) to a BIO. */
apr_status_t crypto_key_write_bio(BIO *out, EVP_PKEY *key, base_error_t *err);

/** The same as text in the pool, overwritten with zeros when the pool ends. */
apr_status_t crypto_key_write(char **pem, apr_size_t *len, EVP_PKEY *key,
                              apr_pool_t *pool, base_error_t *err);

#endif
