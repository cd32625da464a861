/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "acme/account_store.h"

#include <string.h>

#include <apr_strings.h>
#include <openssl/crypto.h>

#include "base/json.h"
#include "base/log.h"
#include "base/step.h"
#include "crypto/jws.h"

#define KEY_FIRST "acme_account+key"    /* Go's name, for the first CA */
#define KEY_LEGACY "acme_account.key"   /* Go's name before 2018 */

/* Read a key and see whether it can sign JWS. */
static int is_same(const char *a, const char *b)
{
    return a != NULL && b != NULL && strcmp(a, b) == 0;
}

const char *acme_account_store_key_name(cache_t *cache, const acme_client_config_t *config,
                                        const char *record_name, apr_pool_t *pool)
{
    const char *own = apr_pstrcat(pool, KEY_FIRST "+", config->id, NULL), *recorded = NULL;
    char *data = NULL;
    apr_size_t len = 0;

    if (cache_get(cache, AUTOCERT_CACHE_PRIVATE, record_name, &data, &len, pool) == APR_SUCCESS) {
        json_t *json = base_json_parse_object(data, len, pool);

        if (is_same(base_json_string(json, "directory"), config->directory_url)) {
            recorded = base_json_string(json, "key");
        }
    }
    if (is_same(recorded, own)) {
        return own;
    }
    return config->first || is_same(recorded, KEY_FIRST) ? KEY_FIRST : own;
}

static apr_status_t read_key(acme_account_work_t *work, const char *pem, apr_size_t len, const char *where)
{
    EVP_PKEY *key = NULL;
    base_error_t why;

    base_error_clear(&why);
    if (crypto_key_read(&key, pem, len, &why) != APR_SUCCESS) {
        return base_error_set(work->err, BASE_ERROR_LOCAL, APR_EGENERAL,
                              "the account key %s cannot be read: %.200s; put the right file "
                              "there, or remove it to get a new account", where, why.detail);
    }
    if (crypto_jws_algorithm(key) == NULL) {
        EVP_PKEY_free(key);
        return base_error_set(work->err, BASE_ERROR_OPERATOR, APR_EGENERAL,
                              "the account key %s is of a kind that ACME does not know: "
                              "use P-256, P-384 or RSA", where);
    }
    work->key = key;
    return APR_SUCCESS;
}

/* Read a cached key. @return APR_NOTFOUND when there is none; an empty one is none */
static apr_status_t load_key(acme_account_work_t *work, const char *name)
{
    char *pem = NULL;
    apr_size_t len = 0;
    apr_status_t st = cache_get(work->places->cache, AUTOCERT_CACHE_SHARED, name, &pem, &len,
                                work->pool);

    if (APR_STATUS_IS_ENOENT(st) || st == APR_NOTFOUND) {
        return APR_NOTFOUND;
    }
    if (st != APR_SUCCESS) {
        return base_error_set(work->err, BASE_ERROR_LOCAL, st,
                              "the account key %s cannot be read from the cache", name);
    }
    if (len == 0) {
        base_log(BASE_LOG_WARNING, "AC0201", NULL, "%s: the account key %s in the cache is empty "
                 "and taken as missing", work->config->name, name);
        return APR_NOTFOUND;
    }
    st = read_key(work, pem, len, name);
    OPENSSL_cleanse(pem, len);
    return st;
}

apr_status_t acme_account_store_put_key(acme_account_work_t *work, const char *what)
{
    char *pem = NULL;
    apr_size_t len = 0;
    apr_status_t st = crypto_key_write(&pem, &len, work->key, work->pool, work->err);

    if (st != APR_SUCCESS) {
        return st;
    }
    st = cache_put(work->places->cache, AUTOCERT_CACHE_SHARED, work->places->key_name, pem, len,
                   work->pool);
    if (st != APR_SUCCESS) {
        return base_error_set(work->err, BASE_ERROR_LOCAL, st,
                              "the account key %s cannot be stored in the cache",
                              work->places->key_name);
    }
    base_log(BASE_LOG_INFO, "AC0202", NULL, "%s: %s the account key %s", work->config->name,
             what, work->places->key_name);
    return APR_SUCCESS;
}

apr_status_t acme_account_store_find_key(acme_account_work_t *work)
{
    const char *pem = work->config->account_pem;

    if (work->key != NULL) {
        return APR_SUCCESS;
    }
    if (pem != NULL) {
        return read_key(work, pem, strlen(pem), "of account=");
    }
    return load_key(work, work->places->key_name);
}

void acme_account_store_read_anew(acme_account_work_t *work)
{
    EVP_PKEY_free(work->key);
    work->key = NULL;
    work->reload = 1;
}

apr_status_t acme_account_store_peek_key(const acme_account_places_t *places,
                                         const acme_client_config_t *config, EVP_PKEY **key,
                                         apr_pool_t *pool)
{
    base_error_t err;
    acme_account_work_t work = { 0 };
    apr_status_t st;

    work.places = places;
    work.config = config;
    work.pool = pool;
    work.err = &err;
    st = load_key(&work, places->key_name);
    *key = work.key;
    return st;
}

void acme_account_store_find_record(acme_account_work_t *work)
{
    char *data = NULL;
    apr_size_t len = 0;
    const char *directory, *thumbprint, *url;
    json_t *json;

    work->url = NULL;
    work->email = NULL;
    work->is_fresh = 0;
    work->thumbprint = crypto_jws_thumbprint(work->key, work->pool);
    if (cache_get(work->places->cache, AUTOCERT_CACHE_PRIVATE, work->places->record_name, &data, &len,
                  work->pool) != APR_SUCCESS) {
        return;
    }
    json = base_json_parse_object(data, len, work->pool);
    directory = base_json_string(json, "directory");
    thumbprint = base_json_string(json, "thumbprint");
    url = base_json_string(json, "url");
    if (directory != NULL && strcmp(directory, work->config->directory_url) == 0
        && thumbprint != NULL && work->thumbprint != NULL
        && strcmp(thumbprint, work->thumbprint) == 0) {
        if (acme_http_url_is_usable(url)) {
            work->url = url;
            work->email = base_json_string(json, "email");
        }
        work->is_fresh = url == NULL;
    }
}

static apr_status_t write_record(acme_account_work_t *work)
{
    json_t *json = json_pack("{s:s, s:s*, s:s, s:s*, s:s}", "directory", work->config->directory_url,
                             "url", work->url, "thumbprint", work->thumbprint, "email",
                             work->email, "key", work->places->key_name);
    const char *text = json != NULL ? base_json_dump(json, work->pool) : NULL;

    return text == NULL ? APR_EINVAL
                        : cache_put(work->places->cache, AUTOCERT_CACHE_PRIVATE,
                                    work->places->record_name, text, strlen(text), work->pool);
}

void acme_account_store_put_record(acme_account_work_t *work)
{
    if (write_record(work) != APR_SUCCESS) {
        base_log(BASE_LOG_WARNING, "AC0203", NULL, "%s: the account's URL could not be stored; "
                 "the CA is asked for it again after the next start", work->config->name);
    }
}

void acme_account_store_forget_record(const acme_account_places_t *places, const acme_client_config_t *config,
                                      const char *url, apr_pool_t *pool)
{
    char *data = NULL;
    apr_size_t len = 0;

    if (cache_get(places->cache, AUTOCERT_CACHE_PRIVATE, places->record_name, &data, &len, pool)
        == APR_SUCCESS) {
        json_t *json = base_json_parse_object(data, len, pool);
        const char *stored = base_json_string(json, "url");

        if (stored != NULL && strcmp(stored, url) == 0) {
            cache_remove(places->cache, AUTOCERT_CACHE_PRIVATE, places->record_name, pool);
            base_log(BASE_LOG_WARNING, "AC0209", NULL, "%s: the CA does not know the account %s "
                     "any more; the next order registers again", config->name, url);
        }
    }
}

apr_status_t acme_account_store_make_new_key(acme_account_work_t *work, crypto_key_type_t type)
{
    apr_status_t st;

    EVP_PKEY_free(work->key);
    work->key = NULL;
    work->url = work->email = NULL;
    st = crypto_key_generate(&work->key, type, work->err);
    if (st != APR_SUCCESS) {
        return st;
    }
    work->is_made = 1;
    work->thumbprint = crypto_jws_thumbprint(work->key, work->pool);
    write_record(work);
    st = acme_account_store_put_key(work, "made");
    if (st == APR_SUCCESS) {
        base_step(BASE_STEP_KEY_MADE);
    }
    return st;
}

apr_status_t acme_account_store_make_key(acme_account_work_t *work)
{
    apr_status_t st = APR_NOTFOUND;

    if (work->config->first) {
        st = load_key(work, KEY_LEGACY);
        if (st == APR_SUCCESS) {
            return acme_account_store_put_key(work, "copied " KEY_LEGACY " to");
        }
    }
    return st == APR_NOTFOUND ? acme_account_store_make_new_key(work, CRYPTO_KEY_P256) : st;
}
