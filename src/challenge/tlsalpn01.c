/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "challenge/tlsalpn01.h"

#include <string.h>

#include <apr_strings.h>

#include "base/identifier.h"
#include "challenge/self_check.h"
#include "crypto/challenge_cert.h"

#define KEY_SUFFIX "+token"

/* RFC 8446 sections 4 and 4.2 */
#define HANDSHAKE_CLIENT_HELLO 1
#define EXTENSION_ALPN 16
#define VERSION_AND_RANDOM 34   /* legacy_version and random, in bytes */

static const char *cache_key_of(const char *name, apr_pool_t *pool)
{
    char stem[BASE_IDENTIFIER_STEM_SIZE];

    return apr_pstrcat(pool, base_identifier_stem(stem, name), KEY_SUFFIX, NULL);
}

static apr_status_t publish(const challenge_task_t *task, apr_pool_t *pool, base_error_t *err)
{
    crypto_bundle_t *bundle = NULL;
    char reason[120];
    char *pem = NULL;
    apr_size_t len = 0;
    apr_status_t rv;

    rv = crypto_challenge_cert_make(&bundle, task->name, task->key_authorization, task->now, err);
    if (rv == APR_SUCCESS) {
        rv = crypto_bundle_write(bundle, &pem, &len, pool, err);
    }
    if (rv == APR_SUCCESS) {
        rv = cache_put(task->cache, AUTOCERT_CACHE_SHARED, cache_key_of(task->name, pool), pem,
                       len, pool);
        if (rv != APR_SUCCESS) {
            base_error_set(err, BASE_ERROR_LOCAL, rv,
                           "cannot write the tls-alpn-01 certificate to the cache: %s",
                           apr_strerror(rv, reason, sizeof(reason)));
        }
    }
    crypto_bundle_free(bundle);
    return rv;
}

/* There is one slot for each name and the name is locked by its order, so what stands there
 * is this order's or a leftover. */
static void withdraw(const challenge_task_t *task, apr_pool_t *pool)
{
    cache_remove(task->cache, AUTOCERT_CACHE_SHARED, cache_key_of(task->name, pool), pool);
}

apr_status_t challenge_tlsalpn01_answer(crypto_bundle_t **bundle, cache_t *cache,
                                        const char *name, apr_pool_t *pool)
{
    crypto_bundle_t *found = NULL;
    base_error_t ignored;
    char *pem = NULL;
    apr_size_t len = 0;
    apr_status_t rv;

    *bundle = NULL;
    rv = cache_get(cache, AUTOCERT_CACHE_SHARED, cache_key_of(name, pool), &pem, &len, pool);
    if (rv != APR_SUCCESS) {
        return rv;
    }
    if (crypto_bundle_parse(&found, pem, len, &ignored) != APR_SUCCESS) {
        return APR_NOTFOUND;
    }
    if (!crypto_challenge_cert_is(found->leaf) || !crypto_bundle_covers(found->leaf, name)) {
        crypto_bundle_free(found);
        return APR_NOTFOUND;
    }
    *bundle = found;
    return APR_SUCCESS;
}

/* What is left of a message or of a part of it. */
typedef struct reader_t {
    const unsigned char *at;
    size_t left;
} reader_t;

/* Take count bytes off; zero when there are not that many. */
static int take_bytes(reader_t *from, size_t count, reader_t *part)
{
    if (from->left < count) {
        return 0;
    }
    part->at = from->at;
    part->left = count;
    from->at += count;
    from->left -= count;
    return 1;
}

/* Take a big-endian number of width bytes off. */
static int take_number(reader_t *from, size_t width, size_t *number)
{
    reader_t bytes;

    if (!take_bytes(from, width, &bytes)) {
        return 0;
    }
    *number = 0;
    while (bytes.left > 0) {
        *number = *number << 8 | *bytes.at++;
        bytes.left--;
    }
    return 1;
}

/* Take a vector off: its length in width bytes, then its content. */
static int take_vector(reader_t *from, size_t width, reader_t *content)
{
    size_t count = 0;

    return take_number(from, width, &count) && take_bytes(from, count, content);
}

/* Non-zero when the content of an ALPN extension is a list of exactly one protocol, ours. */
static int lists_only_ours(reader_t extension)
{
    const size_t len = sizeof(CHALLENGE_TLSALPN01_PROTOCOL) - 1;
    reader_t list, protocol;

    return take_vector(&extension, 2, &list) && extension.left == 0
        && take_vector(&list, 1, &protocol) && list.left == 0
        && protocol.left == len && memcmp(protocol.at, CHALLENGE_TLSALPN01_PROTOCOL, len) == 0;
}

int challenge_tlsalpn01_is_asked(const unsigned char *hello, size_t len)
{
    reader_t message = { hello, len };
    reader_t body, part, extensions;
    size_t type = 0;
    int seen = 0;
    int asked = 0;

    if (!take_number(&message, 1, &type) || type != HANDSHAKE_CLIENT_HELLO
        || !take_vector(&message, 3, &body) || message.left != 0
        || !take_bytes(&body, VERSION_AND_RANDOM, &part)
        || !take_vector(&body, 1, &part)        /* session id */
        || !take_vector(&body, 2, &part)        /* cipher suites */
        || !take_vector(&body, 1, &part)        /* compression methods */
        || !take_vector(&body, 2, &extensions) || body.left != 0) {
        return 0;
    }
    while (extensions.left > 0) {
        if (!take_number(&extensions, 2, &type) || !take_vector(&extensions, 2, &part)) {
            return 0;
        }
        if (type == EXTENSION_ALPN) {
            if (seen) {
                return 0;       /* RFC 8446 section 4.2: one extension of each type */
            }
            seen = 1;
            asked = lists_only_ours(part);
        }
    }
    return asked;
}

const challenge_kind_t challenge_tlsalpn01 = {
    .type = CHALLENGE_TLSALPN01_TYPE,
    .proves = BASE_IDENTIFIER_DNS | BASE_IDENTIFIER_IP,
    .publish = publish,
    .check = challenge_self_check_tls,
    .withdraw = withdraw,
};
