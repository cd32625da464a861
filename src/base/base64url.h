/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file base/base64url.h
 * base64url without padding (RFC 4648 section 5, RFC 7515 section 2). Pure, any thread.
 */
#ifndef BASE_BASE64URL_H
#define BASE_BASE64URL_H

#include <apr_pools.h>

/** @return the text, in the pool */
const char *base_base64url_encode(const void *data, apr_size_t len, apr_pool_t *pool);

/** Non-zero when the string consists of min to max letters of the alphabet. */
int base_base64url_is_text(const char *s, apr_size_t min, apr_size_t max);

#endif
