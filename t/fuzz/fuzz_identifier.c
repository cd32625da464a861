/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/* Names of wildcards and addresses: from the configuration, from file names of the cache, from SNI. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <apr_general.h>
#include <apr_strings.h>

#include "base/identifier.h"
#include "cache/cache.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

/* Its base, wildcard and address are what they must be. */
static void judge_kind(const char *name)
{
    char wildcard[BASE_HOSTNAME_SIZE], plain[BASE_HOSTNAME_SIZE];
    unsigned char address[16];
    int len = base_identifier_address(name, address);
    base_identifier_kind_t kind = base_identifier_kind(name);
    const char *base = base_identifier_base(name);

    if ((kind == BASE_IDENTIFIER_IP) != (len > 0) || (kind == BASE_IDENTIFIER_WILDCARD) != (base != name)
        || (kind != BASE_IDENTIFIER_IP && !base_hostname_from_client(plain, base, strlen(base))))
        abort();
    if (len > 0 && strcmp(base_identifier_from_address(plain, address, len), name) != 0)
        abort();
    if (base_identifier_wildcard_of(wildcard, name)
        && (kind != BASE_IDENTIFIER_DNS || base_identifier_kind(wildcard) != BASE_IDENTIFIER_WILDCARD
            || strlen(base_identifier_base(wildcard)) >= strlen(name)))
        abort();
    if (len == 0 && base_identifier_is_private_address(name))
        abort();
}

/* The one spelling: each way there and back ends where it began. */
static void judge(const char *name)
{
    char stem[BASE_IDENTIFIER_STEM_SIZE], reverse[BASE_HOSTNAME_SIZE], again[BASE_HOSTNAME_SIZE];
    char unicode[BASE_IDENTIFIER_UNICODE_SIZE];

    if (strlen(name) > BASE_HOSTNAME_MAX || !base_identifier_is_same(name, name)
        || !cache_key_is_valid(base_identifier_stem(stem, name))
        || !base_identifier_from_stem(again, stem, strlen(stem)) || strcmp(again, name) != 0)
        abort();
    judge_kind(name);
    if (base_identifier_reverse(reverse, name)
        && (!base_identifier_from_reverse(again, reverse) || strcmp(again, name) != 0
            || !base_hostname_from_client(again, reverse, strlen(reverse))))
        abort();
    if (base_identifier_unicode(unicode, name)
        && (strcmp(unicode, name) == 0 || strlen(unicode) >= sizeof(unicode)))
        abort();
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    char made[BASE_HOSTNAME_SIZE], again[BASE_IDENTIFIER_STEM_SIZE];
    char unicode[BASE_IDENTIFIER_UNICODE_SIZE];
    const char *text, *name = NULL, *second = NULL;
    apr_pool_t *pool = NULL;

    apr_initialize();
    apr_pool_create(&pool, NULL);
    text = apr_pstrmemdup(pool, (const char *)data, size);
    if (!base_identifier_from_config(&name, text, pool)) {
        judge(name);
        /* Only "xn--" labels may be dearer to the second reading. */
        if (!base_identifier_from_config(&second, name, pool) && strcmp(second, name) != 0)
            abort();
    }
    if (base_identifier_from_stem(made, (const char *)data, size)) {
        judge(made);
        if (strlen(base_identifier_stem(again, made)) != size || memcmp(again, data, size) != 0)
            abort();
    }
    if (base_identifier_from_reverse(made, text)) {
        judge(made);
        if (!base_identifier_reverse(again, made) || strcmp(again, text) != 0)
            abort();
    }
    /* What is no name at all. */
    base_identifier_kind(text);
    base_identifier_stem(again, text);
    base_identifier_wildcard_of(made, text);
    base_identifier_unicode(unicode, text);
    base_identifier_is_same(text, "example.org");
    apr_pool_destroy(pool);
    apr_terminate();
    return 0;
}
