/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "acme/key_change.h"

#include <string.h>

#include <apr_strings.h>
#include <openssl/crypto.h>

#include "acme/account_store.h"
#include "acme/refusal.h"
#include "acme/registration.h"
#include "base/json.h"
#include "base/log.h"
#include "crypto/jws.h"
#include "crypto/key.h"

/* A key that the CA was asked, or was to be asked, to take for the account. */
typedef struct pending_t {
    EVP_PKEY *key;
    const char *thumbprint;
    const char *old;                    /* thumbprint of the key it is to follow */
    const char *url;                    /* of the account */
} pending_t;

/* A line of JSON, then the key as PEM: whoever finds it can use it. */
static apr_status_t store_pending(acme_account_work_t *work, const pending_t *pending)
{
    json_t *json = json_pack("{s:s, s:s, s:s}", "directory", work->config->directory_url, "url",
                             pending->url, "old", pending->old);
    const char *head = json != NULL ? base_json_dump(json, work->pool) : NULL;
    char *pem = NULL, *text;
    apr_size_t len = 0;
    apr_status_t st = crypto_key_write(&pem, &len, pending->key, work->pool, work->err);

    if (st != APR_SUCCESS) {
        return st;
    }
    text = apr_pstrcat(work->pool, head != NULL ? head : "", "\n", pem, NULL);
    st = head == NULL ? APR_ENOMEM
                      : cache_put(work->places->cache, AUTOCERT_CACHE_PRIVATE, work->places->pending_name,
                                  text, strlen(text), work->pool);
    OPENSSL_cleanse(text, strlen(text));
    if (st != APR_SUCCESS) {
        return base_error_set(work->err, BASE_ERROR_LOCAL, st, "the account's new key cannot be stored in "
                              "the cache, so the CA is not asked for the change");
    }
    return st;
}

static void remove_pending(acme_account_work_t *work)
{
    cache_remove(work->places->cache, AUTOCERT_CACHE_PRIVATE, work->places->pending_name, work->pool);
}

int acme_key_change_is_pending(const acme_account_work_t *work)
{
    autocert_cache_stat_t stat;

    return work->config->account_pem == NULL
           && cache_stat(work->places->cache, AUTOCERT_CACHE_PRIVATE, work->places->pending_name, &stat,
                         work->pool) == APR_SUCCESS;
}

/* @return APR_NOTFOUND when there is none for this directory, or none that can be read */
static apr_status_t load_pending(acme_account_work_t *work, pending_t *pending)
{
    char *data = NULL, *end;
    apr_size_t len = 0;
    apr_status_t st = APR_NOTFOUND;
    const char *directory;
    json_t *json;

    memset(pending, 0, sizeof(*pending));
    if (cache_get(work->places->cache, AUTOCERT_CACHE_PRIVATE, work->places->pending_name, &data, &len,
                  work->pool) != APR_SUCCESS) {
        return APR_NOTFOUND;
    }
    end = memchr(data, '\n', len);
    if (end != NULL) {
        json = base_json_parse_object(data, (apr_size_t)(end - data), work->pool);
        directory = base_json_string(json, "directory");
        pending->url = base_json_string(json, "url");
        pending->old = base_json_string(json, "old");
        if (directory != NULL && strcmp(directory, work->config->directory_url) == 0
            && pending->old != NULL && acme_http_url_is_usable(pending->url)) {
            st = crypto_key_read(&pending->key, end, len - (apr_size_t)(end - data), NULL);
        }
    }
    OPENSSL_cleanse(data, len);
    if (st == APR_SUCCESS) {
        pending->thumbprint = crypto_jws_thumbprint(pending->key, work->pool);
    }
    return st == APR_SUCCESS && pending->thumbprint != NULL ? st : APR_NOTFOUND;
}

/* The CA knows the account by the pending key: that is the account's from now on. What was pending goes
 * last, so that each step can be done again. */
static apr_status_t adopt_pending(acme_account_work_t *work, pending_t *pending)
{
    EVP_PKEY *old = work->key;
    apr_status_t st = APR_SUCCESS;

    work->key = pending->key;
    if (strcmp(work->thumbprint, pending->thumbprint) != 0) {
        st = acme_account_store_put_key(work, "changed");
    }
    if (st != APR_SUCCESS) {
        work->key = old;
        return st;
    }
    EVP_PKEY_free(old);
    pending->key = NULL;
    /* The contact is told to the CA once more rather than lost. */
    if (work->url == NULL || strcmp(work->url, pending->url) != 0) {
        work->email = NULL;
    }
    work->url = pending->url;
    work->thumbprint = pending->thumbprint;
    acme_account_store_put_record(work);
    remove_pending(work);
    return APR_SUCCESS;
}

/* Does the CA take this key for the account? Asked in two ways: not every CA lets an account be read, and
 * changed terms may stand before it. */
static apr_status_t probe_key(acme_account_work_t *work, EVP_PKEY *key, const char *url)
{
    acme_client_answer_t answer;
    base_error_t refusal;
    apr_status_t st = acme_account_work_post(work, key, url, url, "", &answer);

    if (st == APR_SUCCESS || !acme_refusal_is_no(work->err)
        || strcmp(work->err->type, "accountDoesNotExist") == 0) {
        return st;
    }
    refusal = *work->err;
    st = acme_account_work_post(work, key, work->directory.new_account, NULL, ACME_ACCOUNT_ONLY_EXISTING,
                                &answer);
    if (st == APR_SUCCESS && answer.location != NULL && strcmp(answer.location, url) == 0) {
        return APR_SUCCESS;
    }
    if (st == APR_SUCCESS || acme_refusal_is_no(work->err)) {
        *work->err = refusal;
        st = refusal.status;
    }
    return st;
}

/* Under the lock, with the key of the cache: which of two keys the CA has is found out from itself. A pending
 * one is given up only when the CA is seen to take the other one, or to have lost the account. */
static apr_status_t decide_pending(acme_account_work_t *work, pending_t *pending)
{
    apr_status_t st;

    if (strcmp(pending->thumbprint, work->thumbprint) == 0) {
        return adopt_pending(work, pending);
    }
    if (strcmp(pending->old, work->thumbprint) != 0) {
        base_log(BASE_LOG_WARNING, "AC0236", NULL, "%s: the account key was replaced while a change of it "
                 "was not finished; the change is given up", work->config->name);
        remove_pending(work);
        return APR_SUCCESS;
    }
    st = probe_key(work, pending->key, pending->url);
    if (st == APR_SUCCESS) {
        base_log(BASE_LOG_NOTICE, "AC0236", NULL, "%s: the CA has made the change of the account key that "
                 "was not finished here; the new key is used", work->config->name);
        return adopt_pending(work, pending);
    }
    if (!acme_refusal_is_no(work->err)) {
        return st;
    }
    st = probe_key(work, work->key, pending->url);
    if (st == APR_SUCCESS || strcmp(work->err->type, "accountDoesNotExist") == 0) {
        base_log(BASE_LOG_NOTICE, "AC0236", NULL, "%s: the CA has not made the change of the account key "
                 "that was not finished here; the old key stays", work->config->name);
        remove_pending(work);
        base_error_clear(work->err);
        return APR_SUCCESS;
    }
    if (acme_refusal_mentions_dead(work->err)) {
        acme_refusal_reword_as_dead(work->err, work->config, work->places->key_name, pending->url);
    }
    return st;
}

apr_status_t acme_key_change_settle(acme_account_work_t *work)
{
    pending_t pending;
    apr_status_t st = load_pending(work, &pending);

    if (st == APR_SUCCESS) {
        st = decide_pending(work, &pending);
    }
    else {
        st = APR_SUCCESS;
    }
    EVP_PKEY_free(pending.key);
    return st;
}

/* Signed twice: by the new key, that we have it; by the old one, that it may follow. */
static const char *write_key_change(acme_account_work_t *work, const pending_t *pending)
{
    crypto_jws_header_t header = { NULL, work->directory.key_change, NULL };
    const char *jwk = crypto_jws_jwk(work->key, work->pool), *inner = NULL, *text;
    json_t *json = jwk == NULL ? NULL
                   : json_pack("{s:s, s:o}", "account", pending->url, "oldKey", json_loads(jwk, 0, NULL));

    text = json != NULL ? base_json_dump(json, work->pool) : NULL;
    if (text == NULL || crypto_jws_sign(&inner, pending->key, &header, text, work->pool, work->err)
                            != APR_SUCCESS) {
        return NULL;
    }
    return inner;
}

/* Ask for it. Whatever came back instead of a yes, the CA is asked afterwards which key it has now: a request
 * may have been done although its answer was lost, and may have been refused only when repeated. */
static apr_status_t ask_for_change(acme_account_work_t *work, pending_t *pending,
                                   acme_client_answer_t *answer)
{
    base_error_t refusal;
    apr_status_t st = acme_account_work_post(work, work->key, work->directory.key_change, pending->url,
                                             write_key_change(work, pending), answer);

    if (st == APR_SUCCESS) {
        return adopt_pending(work, pending);
    }
    refusal = *work->err;
    if (refusal.kind == BASE_ERROR_CANCELLED) {
        return st;
    }
    st = acme_key_change_settle(work);
    if (st != APR_SUCCESS) {
        /* Not what a repeated request was told counts, but that nobody knows yet. */
        acme_refusal_reword(work->err, "%.300s; whether the CA has changed the key all the same is found out "
                            "by the next request", refusal.detail);
        return work->err->status;
    }
    if (strcmp(work->thumbprint, pending->thumbprint) == 0) {
        return APR_SUCCESS;
    }
    *work->err = refusal;
    return work->err->status;
}

static apr_status_t change_key(acme_account_work_t *work, crypto_key_type_t type,
                               acme_client_answer_t *answer)
{
    pending_t pending = { NULL, NULL, work->thumbprint, work->url };
    apr_status_t st = crypto_key_generate(&pending.key, type, work->err);

    memset(answer, 0, sizeof(*answer));
    if (st == APR_SUCCESS) {
        pending.thumbprint = crypto_jws_thumbprint(pending.key, work->pool);
        st = store_pending(work, &pending);
    }
    if (st == APR_SUCCESS) {
        st = ask_for_change(work, &pending, answer);
    }
    EVP_PKEY_free(pending.key);
    return st;
}

/* Under the lock. */
static apr_status_t roll_locked(acme_account_work_t *work)
{
    acme_client_answer_t answer;
    apr_status_t st;

    acme_account_store_read_anew(work);
    st = acme_account_store_find_key(work);
    if (st != APR_SUCCESS) {
        return st != APR_NOTFOUND ? st
               : base_error_set(work->err, BASE_ERROR_LOCAL, APR_ENOENT, "the account key %s is not in the "
                                "cache any more", work->places->key_name);
    }
    acme_account_store_find_record(work);
    st = acme_key_change_is_pending(work) ? acme_key_change_settle(work) : APR_SUCCESS;
    if (st == APR_SUCCESS && work->url == NULL) {
        /* Another process changed it, or could not note it: the CA knows. */
        st = acme_registration_find(work);
    }
    if (st != APR_SUCCESS) {
        return st == APR_NOTFOUND ? work->err->status : st;
    }
    st = change_key(work, CRYPTO_KEY_P256, &answer);
    if (st != APR_SUCCESS && crypto_key_is_rsa(work->key) && acme_refusal_wants_rsa(work->err, &answer)
        && !acme_key_change_is_pending(work)) {
        st = change_key(work, CRYPTO_KEY_RSA2048, &answer);
    }
    return st;
}

apr_status_t acme_key_change_roll(acme_account_work_t *work)
{
    apr_status_t st = acme_client_directory(work->client, &work->directory, work->pool, work->err);

    if (st != APR_SUCCESS) {
        return st;
    }
    if (work->directory.key_change == NULL) {
        return base_error_set(work->err, BASE_ERROR_OPERATOR, APR_ENOTIMPL, "this CA cannot change account "
                              "keys (its directory has no keyChange)");
    }
    st = acme_account_work_lock(work);
    return st == APR_SUCCESS ? roll_locked(work) : st;
}
