/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "challenge/http01.h"

#include <string.h>

#include <apr_strings.h>

#include "base/base64url.h"
#include "challenge/self_check.h"

#define KEY_SUFFIX "+http-01"
#define THUMBPRINT_MAX 256      /* letters; SHA-256, the only one in use, has 43 */

static int is_token(const char *token)
{
    return base_base64url_is_text(token, 1, CHALLENGE_HTTP01_TOKEN_MAX);
}

static const char *cache_key_of(const char *token, apr_pool_t *pool)
{
    return apr_pstrcat(pool, token, KEY_SUFFIX, NULL);
}

static apr_status_t publish(const challenge_task_t *task, apr_pool_t *pool, base_error_t *err)
{
    char reason[120];
    apr_status_t rv;

    if (!is_token(task->token)) {
        return base_error_set(err, BASE_ERROR_LOCAL, APR_EINVAL,
                              "cannot answer the http-01 challenge: the CA's token has %lu "
                              "characters or others than base64url, at most %d are supported",
                              (unsigned long)strlen(task->token), CHALLENGE_HTTP01_TOKEN_MAX);
    }
    rv = cache_put(task->cache, AUTOCERT_CACHE_SHARED, cache_key_of(task->token, pool),
                   task->key_authorization, strlen(task->key_authorization), pool);
    if (rv != APR_SUCCESS) {
        return base_error_set(err, BASE_ERROR_LOCAL, rv,
                              "cannot write the http-01 answer to the cache: %s",
                              apr_strerror(rv, reason, sizeof(reason)));
    }
    return APR_SUCCESS;
}

static void withdraw(const challenge_task_t *task, apr_pool_t *pool)
{
    if (is_token(task->token)) {
        cache_remove(task->cache, AUTOCERT_CACHE_SHARED, cache_key_of(task->token, pool), pool);
    }
}

const char *challenge_http01_token(const char *path)
{
    size_t prefix = sizeof(CHALLENGE_HTTP01_PREFIX) - 1;

    if (!path || strncmp(path, CHALLENGE_HTTP01_PREFIX, prefix) != 0 || !is_token(path + prefix)) {
        return NULL;
    }
    return path + prefix;
}

/* Non-zero for "TOKEN.THUMBPRINT" (RFC 8555 section 8.1): a file of the cache that holds
 * something else must not become a response to a stranger. */
static int is_answer_to(const char *token, const char *value, apr_size_t len)
{
    size_t head = strlen(token);

    return len > head && strlen(value) == len && strncmp(value, token, head) == 0
        && value[head] == '.' && base_base64url_is_text(value + head + 1, 1, THUMBPRINT_MAX);
}

apr_status_t challenge_http01_answer(const char **key_authorization, cache_t *cache,
                                     const char *token, apr_pool_t *pool)
{
    char *value = NULL;
    apr_size_t len = 0;
    apr_status_t rv;

    *key_authorization = NULL;
    if (!is_token(token)) {
        return APR_NOTFOUND;
    }
    rv = cache_get(cache, AUTOCERT_CACHE_SHARED, cache_key_of(token, pool), &value, &len, pool);
    if (rv != APR_SUCCESS) {
        return rv;
    }
    if (!is_answer_to(token, value, len)) {
        return APR_NOTFOUND;
    }
    *key_authorization = value;
    return APR_SUCCESS;
}

const challenge_kind_t challenge_http01 = {
    .type = CHALLENGE_HTTP01_TYPE,
    .proves = BASE_IDENTIFIER_DNS | BASE_IDENTIFIER_IP,
    .publish = publish,
    .check = challenge_self_check_http,
    .withdraw = withdraw,
};
