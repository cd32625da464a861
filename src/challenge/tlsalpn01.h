/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file challenge/tlsalpn01.h
 * tls-alpn-01 (RFC 8737). Cache key "NAME+token", where NAME is base_identifier_stem(): key and
 * certificate.
 */
#ifndef CHALLENGE_TLSALPN01_H
#define CHALLENGE_TLSALPN01_H

#include "challenge/challenge.h"
#include "crypto/bundle.h"

#define CHALLENGE_TLSALPN01_TYPE "tls-alpn-01"
#define CHALLENGE_TLSALPN01_PROTOCOL "acme-tls/1"

extern const challenge_kind_t challenge_tlsalpn01;

/** The pair that answers for a name; one read of the cache. The caller frees it.
 * @return APR_NOTFOUND when nothing is published or it is no challenge certificate */
apr_status_t challenge_tlsalpn01_answer(crypto_bundle_t **bundle, cache_t *cache,
                                        const char *name, apr_pool_t *pool);

/**
 * Read the ALPN list of a ClientHello handshake message (RFC 8446 section 4.1.2,
 * RFC 7301 section 3.1), its 4-byte header included.
 * @return non-zero when the list is exactly "acme-tls/1"; zero for everything
 *         else, malformed messages included
 */
int challenge_tlsalpn01_is_asked(const unsigned char *hello, size_t len);

#endif
