/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file challenge/http01.h
 * http-01 (RFC 8555 section 8.3). Cache key "TOKEN+http-01": the key
 * authorization without a newline.
 */
#ifndef CHALLENGE_HTTP01_H
#define CHALLENGE_HTTP01_H

#include "challenge/challenge.h"

#define CHALLENGE_HTTP01_TYPE "http-01"
#define CHALLENGE_HTTP01_PREFIX "/.well-known/acme-challenge/"
#define CHALLENGE_HTTP01_TOKEN_MAX 128

extern const challenge_kind_t challenge_http01;

/**
 * The token of a request path, or NULL when the path is none of ours: exactly
 * the prefix and 1 to 128 letters of base64url, nothing encoded, nothing after.
 * @return a pointer into path
 */
const char *challenge_http01_token(const char *path);

/** The answer to a token; one read of the cache. @return APR_NOTFOUND when
 * nothing is published */
apr_status_t challenge_http01_answer(const char **key_authorization, cache_t *cache,
                                     const char *token, apr_pool_t *pool);

#endif
