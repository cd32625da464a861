/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "manager/saved.h"

#include <string.h>

#include <apr_strings.h>
#include <openssl/crypto.h>

#include "base/identifier.h"
#include "base/json.h"
#include "crypto/key.h"

#define SUFFIX "+order"
#define VERSION 1
#define SECONDS_MAX (APR_INT64_MAX / APR_USEC_PER_SEC)
#define INTERRUPTIONS_LIMIT 1000    /* also of a record with a number that cannot be */

static const char *key_of(const manager_policy_name_t *name, apr_pool_t *pool)
{
    char key[MANAGER_POLICY_CACHE_KEY_SIZE];

    return apr_pstrcat(pool, manager_policy_cache_key(name, key), SUFFIX, NULL);
}

static apr_time_t moment(const json_t *record, const char *member)
{
    json_int_t value = base_json_integer(record, member, 0);

    return value > 0 && value < SECONDS_MAX ? apr_time_from_sec(value) : 0;
}

apr_status_t manager_saved_store(manager_job_t *job, base_error_t *err)
{
    char *pem = NULL, text[120];
    const char *json;
    apr_size_t len = 0;
    apr_status_t rv = crypto_key_write(&pem, &len, job->key, job->pool, err);

    if (rv != APR_SUCCESS)
        return rv;
    json = base_json_dump(json_pack("{s:i,s:s,s:s,s:s*,s:I,s:s#,s:s*,s:s*,s:s*,s:I,s:i}", "v", VERSION,
                                    "ca", job->ca->config->acme.directory_url,
                                    "account", acme_account_url(job->ca->account, job->pool),
                                    "order", job->order != NULL ? job->order->url : NULL,
                                    "placed", (json_int_t)apr_time_sec(job->placed_at),
                                    "key", pem, (int)len, "asked", job->asked, "type", job->asked_type,
                                    "token", job->asked_token, "asked_at",
                                    (json_int_t)apr_time_sec(job->asked_at),
                                    "interruptions", job->interruptions), job->pool);
    if (json == NULL)
        return base_error_set(err, BASE_ERROR_LOCAL, APR_ENOMEM, "the order cannot be saved");
    rv = cache_put(job->context->cache, AUTOCERT_CACHE_PRIVATE, key_of(job->name, job->pool), json,
                   strlen(json), job->pool);
    OPENSSL_cleanse((char *)json, strlen(json));
    if (rv != APR_SUCCESS)
        return base_error_set(err, BASE_ERROR_LOCAL, rv, "the order cannot be saved in the cache: %s",
                              apr_strerror(rv, text, sizeof(text)));
    return APR_SUCCESS;
}

/* The record, NULL without a usable one. */
static json_t *read_record(const manager_order_context_t *context, const manager_policy_name_t *name,
                           apr_pool_t *pool)
{
    char *data = NULL;
    apr_size_t len = 0;
    json_t *record;

    if (cache_get(context->cache, AUTOCERT_CACHE_PRIVATE, key_of(name, pool), &data, &len, pool)
        != APR_SUCCESS)
        return NULL;
    record = base_json_parse_object(data, len, pool);
    OPENSSL_cleanse(data, len);
    return base_json_integer(record, "v", 0) == VERSION ? record : NULL;
}

static int is_same(const char *a, const char *b)
{
    return a != NULL && b != NULL && strcmp(a, b) == 0;
}

apr_status_t manager_saved_load(manager_job_t *job, const char **url)
{
    json_t *record = read_record(job->context, job->name, job->pool);
    const char *pem = base_json_string(record, "key"), *order = base_json_string(record, "order");
    apr_time_t placed_at = moment(record, "placed");
    json_int_t interruptions = base_json_integer(record, "interruptions", 0);

    *url = NULL;
    if (!is_same(base_json_string(record, "ca"), job->ca->config->acme.directory_url))
        return APR_NOTFOUND;
    job->asked = base_json_string(record, "asked");
    job->asked_type = job->asked != NULL ? base_json_string(record, "type") : NULL;
    job->asked_token = job->asked != NULL ? base_json_string(record, "token") : NULL;
    if (pem == NULL || (order == NULL && placed_at == 0)
        || !is_same(base_json_string(record, "account"), acme_account_url(job->ca->account, job->pool))
        || crypto_key_read(&job->key, pem, strlen(pem), NULL) != APR_SUCCESS)
        return APR_NOTFOUND;
    if (!crypto_key_is(job->key, manager_policy_key_type(job->name))) {
        EVP_PKEY_free(job->key);
        job->key = NULL;
        return APR_NOTFOUND;
    }
    *url = order;
    job->placed_at = placed_at;
    job->asked_at = moment(record, "asked_at");
    job->interruptions = interruptions >= 0 && interruptions <= INTERRUPTIONS_LIMIT ? (int)interruptions
                                                                                   : INTERRUPTIONS_LIMIT;
    return APR_SUCCESS;
}

void manager_saved_forget(manager_job_t *job)
{
    cache_remove(job->context->cache, AUTOCERT_CACHE_PRIVATE, key_of(job->name, job->pool), job->pool);
    EVP_PKEY_free(job->key);
    job->key = NULL;
    job->order = NULL;
    job->placed_at = 0;
    job->interruptions = 0;
    job->asked = job->asked_type = job->asked_token = NULL;
}

int manager_saved_exists(const manager_order_context_t *context, const manager_policy_name_t *name,
                         apr_pool_t *pool)
{
    autocert_cache_stat_t st;

    return cache_stat(context->cache, AUTOCERT_CACHE_PRIVATE, key_of(name, pool), &st, pool) == APR_SUCCESS;
}

int manager_saved_ca(const manager_order_context_t *context, const manager_policy_name_t *name,
                     apr_pool_t *pool)
{
    const char *url = NULL;

    if (manager_saved_exists(context, name, pool))
        url = base_json_string(read_record(context, name, pool), "ca");
    return url != NULL ? manager_ca_find(context->configs, url) : -1;
}

void manager_saved_tidy(const manager_order_context_t *context, const manager_policy_name_t *name,
                        apr_pool_t *pool)
{
    char stem[BASE_IDENTIFIER_STEM_SIZE];
    cache_lock_t *lock = NULL;

    if (cache_lock(context->cache, base_identifier_stem(stem, name->name), &lock) != APR_SUCCESS)
        return;
    cache_remove(context->cache, AUTOCERT_CACHE_PRIVATE, key_of(name, pool), pool);
    cache_unlock(lock);
}
