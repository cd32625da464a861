/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file crypto/bundle.h
 * One key with its certificate chain: the content of a cache file of Go's
 * autocert (conformance.md sections 2.2 and 2.3) and what a CA hands out
 * (acme-reference.md section 1.11). No files, clock or network: bytes and the
 * time are arguments. Any thread; nothing blocks.
 */
#ifndef CRYPTO_BUNDLE_H
#define CRYPTO_BUNDLE_H

#include <apr_pools.h>
#include <apr_time.h>
#include <openssl/x509.h>

#include "base/error.h"
#include "crypto/key.h"

#define CRYPTO_BUNDLE_CHAIN_MAX 10              /* certificates, the leaf counted */
#define CRYPTO_BUNDLE_BYTES_MAX (1024 * 1024)   /* of a PEM text */

/** All members are owned by the bundle; never changed once it is shared. */
typedef struct crypto_bundle_t {
    EVP_PKEY *key;
    X509 *leaf;
    STACK_OF(X509) *chain;      /* what follows the leaf; never NULL, may be empty */
    apr_time_t not_before;
    apr_time_t not_after;
} crypto_bundle_t;

/**
 * Put a bundle together. When it succeeds, a reference to key is taken and leaf and
 * chain belong to the bundle; when it fails, everything stays the caller's.
 * @param chain may be NULL for an empty one
 */
apr_status_t crypto_bundle_make(crypto_bundle_t **bundle, EVP_PKEY *key, X509 *leaf,
                                STACK_OF(X509) *chain, base_error_t *err);

/**
 * Parse a cache file: the first PEM block is the private key, the blocks after
 * it are certificates, leaf first. A superset of what Go accepts; each block
 * must be whole and parse.
 */
apr_status_t crypto_bundle_parse(crypto_bundle_t **bundle, const char *pem, apr_size_t len,
                                 base_error_t *err);

/**
 * Judge whether the bundle can serve a name now, as Go's validCert does: the
 * key belongs to the leaf, RSA or EC as asked for, a SAN covers the name (CN is
 * ignored), not_before <= now <= not_after.
 * @param name identifier, see base/identifier.h; @param rsa non-zero when the RSA file of the name is meant
 */
apr_status_t crypto_bundle_check(const crypto_bundle_t *bundle, const char *name, int rsa,
                                 apr_time_t now, base_error_t *err);

/**
 * Make a bundle of our key and the PEM chain a CA sent. Refuses any block that
 * is not CERTIFICATE, more than CRYPTO_BUNDLE_CHAIN_MAX certificates, a leaf
 * for another key or without the name, a CA certificate as leaf, a leaf that
 * may not be a TLS server, one that is expired or begins more than an hour
 * ahead, and a chain that is not signed link by link. Puts a shuffled
 * chain in order; drops repeated certificates and a self-signed root at the end.
 * @param key a reference is taken when it succeeds
 */
apr_status_t crypto_bundle_from_ca(crypto_bundle_t **bundle, EVP_PKEY *key, const char *pem,
                                   apr_size_t len, const char *name, apr_time_t now,
                                   base_error_t *err);

/** The bytes of the cache file: key first, leaf, chain; LF, 64 columns, nothing
 * after. In the pool, overwritten with zeros when the pool ends. */
apr_status_t crypto_bundle_write(const crypto_bundle_t *bundle, char **pem, apr_size_t *len,
                                 apr_pool_t *pool, base_error_t *err);

#define CRYPTO_BUNDLE_FINGERPRINT_SIZE 33

/** What tells one leaf from another: the first half of its SHA-256, in hex. @return text, "" when it fails */
const char *crypto_bundle_fingerprint(const crypto_bundle_t *bundle,
                                      char text[CRYPTO_BUNDLE_FINGERPRINT_SIZE]);

/** Non-zero when one of the certificates of a PEM chain was issued by a CA with this CN (case ignored).
 * What is no certificate, or damaged, is passed over: crypto_bundle_from_ca() judges. */
int crypto_bundle_chain_leads_to(const char *pem, apr_size_t len, const char *cn);

/** Free it; NULL is fine. */
void crypto_bundle_free(crypto_bundle_t *bundle);

/** Non-zero when the leaf's SANs cover the identifier: a DNS name (wildcards as RFC 6125: one whole label), a
 * wildcard (the same one stands there), an address (as iPAddress). */
int crypto_bundle_covers(const X509 *leaf, const char *name);

/** notBefore or notAfter as APR time; 0 when it cannot be read. */
apr_time_t crypto_bundle_asn1_time(const ASN1_TIME *t);

#endif
