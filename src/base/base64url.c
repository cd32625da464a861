/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "base/base64url.h"

#include <apr_encode.h>

const char *base_base64url_encode(const void *data, apr_size_t len, apr_pool_t *pool)
{
    if (len == 0)
        return "";
    return apr_pencode_base64_binary(pool, data, (apr_ssize_t)len, APR_ENCODE_BASE64URL, NULL);
}

static int is_letter(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9')
           || c == '-' || c == '_';
}

int base_base64url_is_text(const char *s, apr_size_t min, apr_size_t max)
{
    apr_size_t len = 0;

    if (!s)
        return 0;
    while (len <= max && is_letter(s[len]))
        len++;
    return len >= min && len <= max && s[len] == '\0';
}
