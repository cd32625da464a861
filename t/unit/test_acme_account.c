/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <apr_tables.h>

#include "acme/account.h"
#include "test_acme_signer.h"

#define PROBLEM "urn:ietf:params:acme:error:"

typedef script_fixture_t fixture_t;

static int set_up(void **state)
{
    fixture_t *f = script_set_up(state);

    script_add(f->script, "POST /account", 201, "Location: /acct/1\r\n",
               "{\"status\":\"valid\"}");
    script_add(f->script, "POST /acct/1", 200, "", "{\"status\":\"valid\"}");
    return 0;
}

static char *stored(fixture_t *f, autocert_cache_space_t space, const char *key)
{
    char *data = NULL;
    apr_size_t len;

    return cache_get(f->cache, space, key, &data, &len, f->pool) == APR_SUCCESS ? data : NULL;
}

static char *shared(fixture_t *f, const char *key)
{
    return stored(f, AUTOCERT_CACHE_SHARED, key);
}

static void store(fixture_t *f, const char *key, const char *text)
{
    assert_int_equal(cache_put(f->cache, AUTOCERT_CACHE_SHARED, key, text, strlen(text), f->pool),
                     APR_SUCCESS);
}

static const char *make_key(fixture_t *f, crypto_key_type_t type)
{
    EVP_PKEY *key = NULL;
    char *pem;
    apr_size_t len;

    assert_int_equal(crypto_key_generate(&key, type, NULL), APR_SUCCESS);
    assert_int_equal(crypto_key_write(&pem, &len, key, f->pool, NULL), APR_SUCCESS);
    EVP_PKEY_free(key);
    return pem;
}

static void test_register(void **state)
{
    fixture_t *f = *state;
    const char *record, *authorization;

    f->config->email = "a@example.net";
    assert_null(acme_account_url(f->account, f->pool));
    assert_null(acme_account_key_authorization(f->account, "t", f->pool));
    assert_int_equal(acme_account_ensure(f->account, &f->err), APR_SUCCESS);
    assert_string_equal(acme_account_url(f->account, f->pool),
                        apr_pstrcat(f->pool, f->script->server->url, "/acct/1", NULL));
    assert_non_null(strstr(script_last(f->script, "POST /account"),
                           "{\"termsOfServiceAgreed\":true,"
                           "\"contact\":[\"mailto:a@example.net\"]}"));
    authorization = acme_account_key_authorization(f->account, "tok", f->pool);
    assert_int_equal(strlen(authorization), 4 + 43);
    assert_memory_equal(authorization, "tok.", 4);
    assert_non_null(strstr(shared(f, "acme_account+key"), "BEGIN EC PRIVATE KEY"));
    record = stored(f, AUTOCERT_CACHE_PRIVATE, "account+scripted");
    assert_non_null(strstr(record, authorization + 4));
    assert_non_null(strstr(record, "a@example.net"));
    /* A new process asks nothing but the directory. */
    script_restart(f);
    assert_int_equal(acme_account_ensure(f->account, &f->err), APR_SUCCESS);
    assert_int_equal(script_seen(f->script, "POST"), 1);
    assert_string_equal(acme_account_key_authorization(f->account, "tok", f->pool),
                        authorization);
}

static void test_other_directory(void **state)
{
    fixture_t *f = *state;

    assert_int_equal(acme_account_ensure(f->account, &f->err), APR_SUCCESS);
    script_add(f->script, "GET /dir?2", 200, "", "{\"newNonce\":\"$U/nonce\",\"newAccount\":"
               "\"$U/account\",\"newOrder\":\"$U/new\"}");
    f->config->directory_url = apr_pstrcat(f->pool, f->config->directory_url, "?2", NULL);
    script_restart(f);
    assert_int_equal(acme_account_ensure(f->account, &f->err), APR_SUCCESS);
    assert_int_equal(script_seen(f->script, "POST /account"), 2);
    /* This directory has no terms, so none are agreed to. */
    assert_null(strstr(script_last(f->script, "POST /account"), "termsOfServiceAgreed"));
}

static void test_terms(void **state)
{
    fixture_t *f = *state;
    apr_array_header_t *urls = apr_array_make(f->pool, 1, sizeof(const char *));

    f->config->tos_any = 0;
    assert_int_not_equal(acme_account_ensure(f->account, &f->err), APR_SUCCESS);
    assert_int_equal(f->err.kind, BASE_ERROR_OPERATOR);
    assert_non_null(strstr(f->err.detail, "\"AutocertAcceptTOS on\""));
    assert_non_null(strstr(f->err.detail, "\"AutocertAcceptTOS https://ca.example/tos-1\""));
    assert_int_equal(script_seen(f->script, "POST"), 0);
    assert_null(shared(f, "acme_account+key"));
    APR_ARRAY_PUSH(urls, const char *) = "https://ca.example/tos-0";
    f->config->tos_urls = urls;
    assert_int_not_equal(acme_account_ensure(f->account, &f->err), APR_SUCCESS);
    APR_ARRAY_PUSH(urls, const char *) = "https://ca.example/tos-1";
    assert_int_equal(acme_account_ensure(f->account, &f->err), APR_SUCCESS);
    assert_non_null(strstr(script_last(f->script, "POST /account"), "termsOfServiceAgreed"));
    /* New terms do not lock an old account out; taking the agreement back does. */
    urls->nelts = 1;
    script_restart(f);
    assert_int_equal(acme_account_ensure(f->account, &f->err), APR_SUCCESS);
    f->config->tos_urls = NULL;
    script_restart(f);
    assert_int_not_equal(acme_account_ensure(f->account, &f->err), APR_SUCCESS);
}

static void test_key_survives(void **state)
{
    fixture_t *f = *state;
    const char *key;

    script_drop(f->script, "POST /account");
    script_add(f->script, "POST /account", 500, "", "");
    script_add(f->script, "POST /account", 200, "Location: /acct/1\r\n", "{}");
    assert_int_not_equal(acme_account_ensure(f->account, &f->err), APR_SUCCESS);
    assert_int_equal(f->err.kind, BASE_ERROR_CA_DOWN);
    key = shared(f, "acme_account+key");
    assert_non_null(key);
    script_restart(f);
    assert_int_equal(acme_account_ensure(f->account, &f->err), APR_SUCCESS);
    assert_string_equal(shared(f, "acme_account+key"), key);
}

static void test_email(void **state)
{
    fixture_t *f = *state;

    assert_int_equal(acme_account_ensure(f->account, &f->err), APR_SUCCESS);
    f->config->email = "b@example.net";
    script_drop(f->script, "POST /acct/1");
    script_add(f->script, "POST /acct/1", 400, "", "{\"type\":\"" PROBLEM "invalidContact\"}");
    script_restart(f);
    assert_int_equal(acme_account_ensure(f->account, &f->err), APR_SUCCESS);
    assert_int_equal(f->err.kind, BASE_ERROR_NONE);
    script_drop(f->script, "POST /acct/1");
    script_add(f->script, "POST /acct/1", 200, "", "{}");
    script_restart(f);
    assert_int_equal(acme_account_ensure(f->account, &f->err), APR_SUCCESS);
    assert_non_null(strstr(script_last(f->script, "POST /acct/1"),
                           "{\"contact\":[\"mailto:b@example.net\"]}"));
    script_restart(f);
    assert_int_equal(acme_account_ensure(f->account, &f->err), APR_SUCCESS);
    assert_int_equal(script_seen(f->script, "POST /acct/1"), 2);
    f->config->email = NULL;
    script_restart(f);
    assert_int_equal(acme_account_ensure(f->account, &f->err), APR_SUCCESS);
    assert_non_null(strstr(script_last(f->script, "POST /acct/1"), "{\"contact\":[]}"));
    assert_int_equal(script_seen(f->script, "POST /account"), 1);
}

static void test_keys(void **state)
{
    fixture_t *f = *state;
    const char *legacy = make_key(f, CRYPTO_KEY_P384), *own = make_key(f, CRYPTO_KEY_P256);

    store(f, "acme_account.key", legacy);
    assert_int_equal(acme_account_ensure(f->account, &f->err), APR_SUCCESS);
    assert_string_equal(shared(f, "acme_account+key"), legacy);
    /* A second CA has a key of its own name, and never the legacy one. */
    f->config->first = 0;
    f->config->id = "second";
    script_restart(f);
    assert_int_equal(acme_account_ensure(f->account, &f->err), APR_SUCCESS);
    assert_non_null(shared(f, "acme_account+key+second"));
    assert_string_not_equal(shared(f, "acme_account+key+second"), legacy);
    /* A configured key is not written to the cache. */
    f->config->id = "third";
    f->config->account_pem = own;
    script_restart(f);
    assert_int_equal(acme_account_ensure(f->account, &f->err), APR_SUCCESS);
    assert_null(shared(f, "acme_account+key+third"));
}

static void test_bad_keys(void **state)
{
    fixture_t *f = *state;

    store(f, "acme_account+key", "-----BEGIN EC PRIVATE KEY-----\nAAAA\n"
          "-----END EC PRIVATE KEY-----\n");
    assert_int_not_equal(acme_account_ensure(f->account, &f->err), APR_SUCCESS);
    assert_int_equal(f->err.kind, BASE_ERROR_LOCAL);
    assert_non_null(strstr(f->err.detail, "acme_account+key"));
    assert_null(strstr(f->err.detail, "AAAA"));
    assert_non_null(strstr(shared(f, "acme_account+key"), "AAAA"));
    assert_int_equal(script_seen(f->script, "POST"), 0);
    store(f, "acme_account+key", "");
    assert_int_equal(acme_account_ensure(f->account, &f->err), APR_SUCCESS);
    assert_non_null(strstr(shared(f, "acme_account+key"), "BEGIN EC PRIVATE KEY"));
}

static void test_deactivated(void **state)
{
    fixture_t *f = *state;

    script_drop(f->script, "POST /account");
    script_add(f->script, "POST /account", 200, "Location: /acct/1\r\n",
               "{\"status\":\"deactivated\"}");
    script_add(f->script, "POST /account", 201, "", "{}");
    assert_int_not_equal(acme_account_ensure(f->account, &f->err), APR_SUCCESS);
    assert_int_equal(f->err.kind, BASE_ERROR_OPERATOR);
    assert_int_not_equal(acme_account_ensure(f->account, &f->err), APR_SUCCESS);
    assert_int_equal(f->err.kind, BASE_ERROR_CA_DOWN);
}

static void test_forgotten(void **state)
{
    fixture_t *f = *state;
    acme_client_request_t request = { 0 };
    acme_client_answer_t answer;
    const char *key;

    script_add(f->script, "POST /order", 400, "",
               "{\"type\":\"" PROBLEM "accountDoesNotExist\"}");
    script_add(f->script, "POST /order", 200, "", "{}");
    request.url = apr_pstrcat(f->pool, f->script->server->url, "/order", NULL);
    request.payload = "{}";
    assert_int_equal(acme_account_ensure(f->account, &f->err), APR_SUCCESS);
    key = shared(f, "acme_account+key");
    assert_int_not_equal(acme_account_post(f->account, &request, &answer, f->pool, &f->err),
                         APR_SUCCESS);
    assert_int_equal(f->err.kind, BASE_ERROR_GONE);
    assert_null(acme_account_url(f->account, f->pool));
    assert_null(stored(f, AUTOCERT_CACHE_PRIVATE, "account+scripted"));
    assert_int_equal(acme_account_post(f->account, &request, &answer, f->pool, &f->err),
                     APR_SUCCESS);
    assert_int_equal(script_seen(f->script, "POST /account"), 2);
    assert_string_equal(shared(f, "acme_account+key"), key);
    acme_account_forget(f->account, "https://other.example/1");
    assert_non_null(acme_account_url(f->account, f->pool));
}

static void *ensure_thread(void *data)
{
    base_error_t err;

    return acme_account_ensure(data, &err) == APR_SUCCESS ? NULL : data;
}

static void test_threads(void **state)
{
    fixture_t *f = *state;
    pthread_t threads[8];
    void *failed;
    int i;

    for (i = 0; i < 8; i++) {
        pthread_create(&threads[i], NULL, ensure_thread, f->account);
    }
    for (i = 0; i < 8; i++) {
        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
    assert_int_equal(script_seen(f->script, "POST /account"), 1);
    assert_int_equal(script_seen(f->script, "GET /dir"), 1);
}

static void test_locked(void **state)
{
    fixture_t *f = *state;
    cache_lock_t *lock = NULL;
    pthread_t thread;
    void *failed;

    assert_int_equal(cache_lock(f->cache, "account+scripted", &lock), APR_SUCCESS);
    pthread_create(&thread, NULL, ensure_thread, f->account);
    usleep(300000);
    assert_int_equal(script_seen(f->script, "POST"), 0);
    cache_unlock(lock);
    pthread_join(thread, &failed);
    assert_null(failed);
    /* Waiting for the lock ends when the process is asked to stop. */
    f->config->id = "other";
    script_restart(f);
    assert_int_equal(cache_lock(f->cache, "account+other", &lock), APR_SUCCESS);
    pthread_create(&thread, NULL, ensure_thread, f->account);
    usleep(100000);
    base_stop_raise(f->stop);
    pthread_join(thread, &failed);
    assert_non_null(failed);
    cache_unlock(lock);
}

/* ---- external account binding ---- */

#define EAB_DIR "{\"newNonce\":\"$U/nonce\",\"newAccount\":\"$U/account\",\"newOrder\":\"$U/new\"," \
    "\"meta\":{\"externalAccountRequired\":true}}"
#define NO_ACCOUNT "{\"type\":\"" PROBLEM "accountDoesNotExist\"}"
#define ONLY_EXISTING "{\"onlyReturnExisting\":true}"

static void require_binding(fixture_t *f)
{
    script_drop(f->script, "GET /dir");
    script_add(f->script, "GET /dir", 200, "", EAB_DIR);
    script_restart(f);
}

static void test_binding(void **state)
{
    fixture_t *f = *state;
    const char *last;

    require_binding(f);
    f->config->eab_kid = "kid-7";
    f->config->eab_key = "c2VjcmV0";
    f->config->email = "a@example.net";
    assert_int_equal(acme_account_ensure(f->account, &f->err), APR_SUCCESS);
    /* A key that was made just now need not be asked for. */
    assert_int_equal(script_seen(f->script, "POST /account"), 1);
    last = script_last(f->script, "POST /account");
    assert_non_null(strstr(last, "\"externalAccountBinding\":{\"protected\":\""));
    assert_non_null(strstr(last, "\"contact\""));
    assert_null(strstr(last, "secret"));
    assert_null(strstr(last, "c2VjcmV0"));
    /* An account that exists needs it no more, whatever the configuration says. */
    f->config->eab_kid = NULL;
    script_restart(f);
    assert_int_equal(acme_account_ensure(f->account, &f->err), APR_SUCCESS);
    assert_int_equal(script_seen(f->script, "POST /account"), 1);
}

/* Killed after the CA made the account: the binding is spent. */
static void test_binding_crash(void **state)
{
    fixture_t *f = *state;

    require_binding(f);
    f->config->eab_kid = "kid-7";
    f->config->eab_key = "c2VjcmV0";
    script_drop(f->script, "POST /account");
    script_add(f->script, "POST /account", SCRIPT_LOST, "", "");
    script_add(f->script, "POST /account", 200, "Location: /acct/1\r\n", "{\"status\":\"valid\"}");
    assert_int_not_equal(acme_account_ensure(f->account, &f->err), APR_SUCCESS);
    assert_int_equal(f->err.kind, BASE_ERROR_CA_DOWN);
    script_restart(f);
    assert_int_equal(acme_account_ensure(f->account, &f->err), APR_SUCCESS);
    assert_non_null(strstr(script_last(f->script, "POST /account"), ONLY_EXISTING));
    assert_int_equal(script_seen(f->script, "POST /account"), 2);
}

/* Killed before it did. */
static void test_binding_resumed(void **state)
{
    fixture_t *f = *state;

    f->config->eab_kid = "kid-7";
    f->config->eab_key = "c2VjcmV0";
    store(f, "acme_account+key", make_key(f, CRYPTO_KEY_P256));
    script_drop(f->script, "POST /account");
    script_add(f->script, "POST /account", 400, "", NO_ACCOUNT);
    script_add(f->script, "POST /account", 201, "Location: /acct/1\r\n", "{}");
    assert_int_equal(acme_account_ensure(f->account, &f->err), APR_SUCCESS);
    assert_int_equal(script_seen(f->script, "POST /account"), 2);
    assert_non_null(strstr(script_last(f->script, "POST /account"), "externalAccountBinding"));
}

static void test_binding_missing(void **state)
{
    fixture_t *f = *state;

    require_binding(f);
    assert_int_not_equal(acme_account_ensure(f->account, &f->err), APR_SUCCESS);
    assert_int_equal(f->err.kind, BASE_ERROR_OPERATOR);
    assert_non_null(strstr(f->err.detail, "\"AutocertCA ... eab=FILE\""));
    assert_int_equal(script_seen(f->script, "POST /account"), 0);
    /* With a key that may have an account the CA is asked, without making one. */
    script_drop(f->script, "POST /account");
    script_add(f->script, "POST /account", 400, "", NO_ACCOUNT);
    script_add(f->script, "POST /account", 403, "", "{\"type\":\"" PROBLEM "externalAccountRequired\"}");
    script_add(f->script, "POST /account", 200, "Location: /acct/1\r\n", "{\"status\":\"valid\"}");
    assert_int_not_equal(acme_account_ensure(f->account, &f->err), APR_SUCCESS);
    assert_non_null(strstr(f->err.detail, "\"AutocertCA ... eab=FILE\""));
    assert_int_not_equal(acme_account_ensure(f->account, &f->err), APR_SUCCESS);
    assert_int_equal(script_seen(f->script, "POST /account"), 2);
    assert_int_equal(acme_account_ensure(f->account, &f->err), APR_SUCCESS);
    assert_non_null(strstr(script_last(f->script, "POST /account"), ONLY_EXISTING));
}

static void test_binding_refused(void **state)
{
    fixture_t *f = *state;

    /* The directory does not tell, the CA does. */
    script_drop(f->script, "POST /account");
    script_add(f->script, "POST /account", 403, "", "{\"type\":\"" PROBLEM "externalAccountRequired\","
               "\"detail\":\"who are you\"}");
    assert_int_not_equal(acme_account_ensure(f->account, &f->err), APR_SUCCESS);
    assert_int_equal(f->err.kind, BASE_ERROR_OPERATOR);
    assert_non_null(strstr(f->err.detail, "\"AutocertCA ... eab=FILE\" (who are you)"));
    f->config->eab_kid = "kid-7";
    f->config->eab_key = "not base64!";
    script_drop(f->script, "POST /account");
    script_add(f->script, "POST /account", 400, "", NO_ACCOUNT);
    assert_int_not_equal(acme_account_ensure(f->account, &f->err), APR_SUCCESS);
    assert_int_equal(f->err.kind, BASE_ERROR_OPERATOR);
    assert_non_null(strstr(f->err.detail, "MAC key"));
    f->config->eab_key = "c2VjcmV0";
    script_add(f->script, "POST /account", 400, "", NO_ACCOUNT);
    script_add(f->script, "POST /account", 403, "", "{\"type\":\"" PROBLEM "unauthorized\","
               "\"detail\":\"unknown key\"}");
    assert_int_not_equal(acme_account_ensure(f->account, &f->err), APR_SUCCESS);
    assert_int_equal(f->err.kind, BASE_ERROR_OPERATOR);
    assert_string_equal(f->err.type, "unauthorized");
    assert_non_null(strstr(f->err.detail, "kid-7"));
    assert_non_null(strstr(f->err.detail, "unknown key"));
    /* A CA that is down is no reason to spend the binding. */
    script_drop(f->script, "POST /account");
    script_add(f->script, "POST /account", 503, "", "");
    assert_int_not_equal(acme_account_ensure(f->account, &f->err), APR_SUCCESS);
    assert_int_equal(f->err.kind, BASE_ERROR_CA_DOWN);
    assert_null(strstr(script_last(f->script, "POST /account"), "externalAccountBinding"));
}

/* ---- kinds of keys ---- */

#define ONLY_RSA "{\"type\":\"" PROBLEM "badSignatureAlgorithm\",\"detail\":\"no\"," \
    "\"algorithms\":[\"RS256\",\"PS256\"]}"

static void test_rsa_wanted(void **state)
{
    fixture_t *f = *state;

    /* Also when the first process did not get that far. */
    script_drop(f->script, "POST /account");
    script_add(f->script, "POST /account", 500, "", "");
    script_add(f->script, "POST /account", 400, "", ONLY_RSA);
    script_add(f->script, "POST /account", 201, "Location: /acct/1\r\n", "{}");
    assert_int_not_equal(acme_account_ensure(f->account, &f->err), APR_SUCCESS);
    assert_non_null(strstr(shared(f, "acme_account+key"), "BEGIN EC PRIVATE KEY"));
    script_restart(f);
    assert_int_equal(acme_account_ensure(f->account, &f->err), APR_SUCCESS);
    assert_non_null(strstr(shared(f, "acme_account+key"), "BEGIN RSA PRIVATE KEY"));
    assert_int_equal(script_seen(f->script, "POST /account"), 3);
}

static void test_rsa_not_wanted(void **state)
{
    fixture_t *f = *state;
    const char *own = make_key(f, CRYPTO_KEY_P256);

    /* A key that was there may be an account elsewhere. */
    store(f, "acme_account+key", own);
    script_drop(f->script, "POST /account");
    script_add(f->script, "POST /account", 400, "", ONLY_RSA);
    assert_int_not_equal(acme_account_ensure(f->account, &f->err), APR_SUCCESS);
    assert_int_equal(f->err.kind, BASE_ERROR_OPERATOR);
    assert_non_null(strstr(f->err.detail, "account=FILE"));
    assert_string_equal(shared(f, "acme_account+key"), own);
    /* Nor is a key exchanged for one that the CA takes no better. */
    cache_remove(f->cache, AUTOCERT_CACHE_SHARED, "acme_account+key", f->pool);
    script_drop(f->script, "POST /account");
    script_add(f->script, "POST /account", 400, "", ONLY_RSA);
    script_add(f->script, "POST /account", 400, "", "{\"type\":\"" PROBLEM "badSignatureAlgorithm\","
               "\"algorithms\":[\"RS256\",\"ES256\"]}");
    script_restart(f);
    assert_int_not_equal(acme_account_ensure(f->account, &f->err), APR_SUCCESS);
    assert_int_equal(script_seen(f->script, "POST /account"), 3);
}

/* ---- accounts that are no more ---- */

static apr_status_t order(fixture_t *f)
{
    acme_client_request_t request = { 0 };
    acme_client_answer_t answer;

    request.url = apr_pstrcat(f->pool, f->script->server->url, "/order", NULL);
    request.payload = "{}";
    base_error_clear(&f->err);
    return acme_account_post(f->account, &request, &answer, f->pool, &f->err);
}

static void test_dead(void **state)
{
    fixture_t *f = *state;

    assert_int_equal(acme_account_ensure(f->account, &f->err), APR_SUCCESS);
    script_add(f->script, "POST /order", 403, "", "{\"type\":\"" PROBLEM "unauthorized\",\"detail\":"
               "\"Account is not valid, has status 'deactivated'\"}");
    assert_int_not_equal(order(f), APR_SUCCESS);
    assert_int_equal(f->err.kind, BASE_ERROR_OPERATOR);
    assert_string_equal(f->err.type, "unauthorized");
    assert_int_equal(f->err.http_status, 403);
    assert_non_null(strstr(f->err.detail, "/acct/1 for good"));
    assert_non_null(strstr(f->err.detail, "remove acme_account+key from the cache"));
    assert_int_equal(script_seen(f->script, "POST /account"), 1);
    /* That is enough: no restart. */
    cache_remove(f->cache, AUTOCERT_CACHE_SHARED, "acme_account+key", f->pool);
    script_add(f->script, "POST /account", 201, "Location: /acct/2\r\n", "{\"status\":\"valid\"}");
    assert_int_not_equal(order(f), APR_SUCCESS);
    script_drop(f->script, "POST /order");
    script_add(f->script, "POST /order", 200, "", "{}");
    assert_int_equal(order(f), APR_SUCCESS);
    assert_non_null(strstr(acme_account_url(f->account, f->pool), "/acct/2"));
    assert_non_null(shared(f, "acme_account+key"));
}

/* smallstep says nothing of why. */
static void test_dead_silently(void **state)
{
    fixture_t *f = *state;

    assert_int_equal(acme_account_ensure(f->account, &f->err), APR_SUCCESS);
    script_add(f->script, "POST /order", 401, "", "{\"type\":\"" PROBLEM "unauthorized\",\"detail\":"
               "\"The client lacks sufficient authorization\"}");
    script_drop(f->script, "POST /account");
    script_add(f->script, "POST /account", 200, "Location: /acct/1\r\n", "{\"status\":\"valid\"}");
    script_add(f->script, "POST /account", 401, "", "{\"type\":\"" PROBLEM "unauthorized\"}");
    assert_int_not_equal(order(f), APR_SUCCESS);
    assert_non_null(strstr(script_last(f->script, "POST /account"), ONLY_EXISTING));
    assert_string_equal(f->err.detail, "The client lacks sufficient authorization");
    /* Not again within the hour. */
    assert_int_not_equal(order(f), APR_SUCCESS);
    assert_int_equal(script_seen(f->script, "POST /account"), 2);
    clock_offset = apr_time_from_sec(3700);
    assert_int_not_equal(order(f), APR_SUCCESS);
    assert_int_equal(script_seen(f->script, "POST /account"), 3);
    assert_non_null(strstr(f->err.detail, "for good"));
    f->config->account_pem = make_key(f, CRYPTO_KEY_P256);
    clock_offset = 2 * apr_time_from_sec(3700);
    assert_int_not_equal(order(f), APR_SUCCESS);
    assert_non_null(strstr(f->err.detail, "account= another key"));
}

/* ---- key roll-over ---- */

#define CHANGE_DIR "{\"newNonce\":\"$U/nonce\",\"newAccount\":\"$U/account\",\"newOrder\":\"$U/new\"," \
    "\"keyChange\":\"$U/key-change\"}"
#define PENDING "account+scripted+key"

static void start_roll(fixture_t *f)
{
    script_drop(f->script, "GET /dir");
    script_add(f->script, "GET /dir", 200, "", CHANGE_DIR);
    script_add(f->script, "POST /key-change", 200, "", "{}");
    script_add(f->script, "POST /order", 200, "", "{}");
    f->script->judge = signer_judge;
    script_restart(f);
    assert_int_equal(acme_account_ensure(f->account, &f->err), APR_SUCCESS);
}

static char *pending(fixture_t *f)
{
    return stored(f, AUTOCERT_CACHE_PRIVATE, PENDING);
}

/* How often an account was to be made. */
static int registrations(fixture_t *f)
{
    int i, n = 0;

    pthread_mutex_lock(&f->script->mutex);
    for (i = 0; i < f->script->logged; i++) {
        n += strncmp(f->script->log[i], "POST /account ", 14) == 0
             && strstr(f->script->log[i], ONLY_EXISTING) == NULL;
    }
    pthread_mutex_unlock(&f->script->mutex);
    return n;
}

/* All is well again: the same account, and the CA takes what is signed. */
static void assert_works(fixture_t *f)
{
    assert_int_equal(order(f), APR_SUCCESS);
    assert_null(pending(f));
    assert_string_equal(acme_account_url(f->account, f->pool),
                        apr_pstrcat(f->pool, f->script->server->url, "/acct/1", NULL));
    script_restart(f);
    assert_int_equal(order(f), APR_SUCCESS);
    assert_int_equal(registrations(f), 1);
}

static void test_roll(void **state)
{
    fixture_t *f = *state;
    const char *before, *authorization;

    f->config->email = "a@example.net";
    start_roll(f);
    before = shared(f, "acme_account+key");
    authorization = acme_account_key_authorization(f->account, "t", f->pool);
    assert_int_equal(acme_account_roll_key(f->account, &f->err), APR_SUCCESS);
    assert_int_equal(f->err.kind, BASE_ERROR_NONE);
    assert_string_not_equal(shared(f, "acme_account+key"), before);
    assert_string_not_equal(acme_account_key_authorization(f->account, "t", f->pool), authorization);
    assert_non_null(strstr(stored(f, AUTOCERT_CACHE_PRIVATE, "account+scripted"), "a@example.net"));
    assert_works(f);
    assert_int_equal(script_seen(f->script, "POST /acct/1"), 0);
    /* And again. */
    assert_int_equal(acme_account_roll_key(f->account, &f->err), APR_SUCCESS);
    assert_works(f);
}

static void test_roll_not_possible(void **state)
{
    fixture_t *f = *state;

    assert_int_not_equal(acme_account_roll_key(f->account, &f->err), APR_SUCCESS);
    assert_int_equal(f->err.kind, BASE_ERROR_OPERATOR);
    assert_non_null(strstr(f->err.detail, "keyChange"));
    f->config->account_pem = make_key(f, CRYPTO_KEY_P256);
    script_restart(f);
    assert_int_not_equal(acme_account_roll_key(f->account, &f->err), APR_SUCCESS);
    assert_int_equal(f->err.kind, BASE_ERROR_OPERATOR);
    assert_non_null(strstr(f->err.detail, "account="));
    assert_null(pending(f));
}

static void test_roll_refused(void **state)
{
    fixture_t *f = *state;
    const char *before;

    start_roll(f);
    before = shared(f, "acme_account+key");
    script_drop(f->script, "POST /key-change");
    script_add(f->script, "POST /key-change", 501, "", "{\"type\":\"" PROBLEM "rejectedIdentifier\","
               "\"detail\":\"not here\"}");
    assert_int_not_equal(acme_account_roll_key(f->account, &f->err), APR_SUCCESS);
    assert_int_equal(f->err.kind, BASE_ERROR_OPERATOR);
    assert_string_equal(f->err.detail, "not here");
    assert_string_equal(shared(f, "acme_account+key"), before);
    assert_works(f);
}

/* The answer is lost, with and without the change being made. */
static void test_roll_lost(void **state)
{
    fixture_t *f = *state;
    const char *before;

    start_roll(f);
    before = shared(f, "acme_account+key");
    script_drop(f->script, "POST /key-change");
    script_add(f->script, "POST /key-change", SCRIPT_LOST, "", "");
    assert_int_not_equal(acme_account_roll_key(f->account, &f->err), APR_SUCCESS);
    assert_int_equal(f->err.kind, BASE_ERROR_CA_DOWN);
    assert_string_equal(shared(f, "acme_account+key"), before);
    assert_works(f);
    f->script->loses_answers = 1;
    assert_int_equal(acme_account_roll_key(f->account, &f->err), APR_SUCCESS);
    assert_string_not_equal(shared(f, "acme_account+key"), before);
    assert_works(f);
}

/* Lost, and the CA cannot be asked at once. */
static void test_roll_lost_and_down(void **state)
{
    fixture_t *f = *state;
    int done;

    start_roll(f);
    for (done = 0; done < 2; done++) {
        const char *before = shared(f, "acme_account+key");

        f->script->loses_answers = done;
        script_drop(f->script, "POST /key-change");
        script_add(f->script, "POST /key-change", SCRIPT_LOST, "", "");
        script_drop(f->script, "POST /acct/1");
        script_add(f->script, "POST /acct/1", 503, "", "");
        assert_int_not_equal(acme_account_roll_key(f->account, &f->err), APR_SUCCESS);
        assert_int_equal(f->err.kind, BASE_ERROR_CA_DOWN);
        assert_non_null(strstr(pending(f), "BEGIN EC PRIVATE KEY"));
        script_drop(f->script, "POST /acct/1");
        script_add(f->script, "POST /acct/1", 200, "", "{\"status\":\"valid\"}");
        /* The process that tried goes on. */
        assert_int_equal(order(f), APR_SUCCESS);
        if (done) {
            assert_string_not_equal(shared(f, "acme_account+key"), before);
        }
        else {
            assert_string_equal(shared(f, "acme_account+key"), before);
            script_restart(f);
        }
        assert_works(f);
    }
}

/* A store that takes nothing any more after so many writes: as if the process had ended there. */
static autocert_cache_provider_t dying_provider;
static int writes_left;

static apr_status_t dying_put(autocert_cache_t *cache, autocert_cache_space_t space, const char *key,
                              const char *data, apr_size_t len, apr_pool_t *pool)
{
    return writes_left-- > 0 ? cache_dir_provider.put(cache, space, key, data, len, pool) : APR_EGENERAL;
}

static apr_status_t dying_remove(autocert_cache_t *cache, autocert_cache_space_t space, const char *key,
                                 apr_pool_t *pool)
{
    return writes_left-- > 0 ? cache_dir_provider.remove(cache, space, key, pool) : APR_EGENERAL;
}

static void test_roll_crashes(void **state)
{
    fixture_t *f = *state;
    cache_t *good = f->cache;
    int i;

    start_roll(f);
    dying_provider = cache_dir_provider;
    dying_provider.put = dying_put;
    dying_provider.remove = dying_remove;
    /* Writes: the pending key, the key, the record, the pending key removed. */
    for (i = 0; i <= 4; i++) {
        const char *before = shared(f, "acme_account+key");
        apr_status_t st;

        assert_int_equal(cache_open(&f->cache, &dying_provider, f->dir, f->pool), APR_SUCCESS);
        writes_left = i;
        script_restart(f);
        st = acme_account_roll_key(f->account, &f->err);
        assert_int_equal(st == APR_SUCCESS, i >= 2);
        assert_int_equal(pending(f) != NULL, i > 0 && i < 4);
        f->cache = good;
        script_restart(f);
        assert_works(f);
        assert_int_equal(strcmp(shared(f, "acme_account+key"), before) != 0, i > 0);
    }
    assert_int_equal(script_seen(f->script, "POST /key-change"), 4);
}

/* The process that rolled died before it asked. */
static void test_roll_crash_before(void **state)
{
    fixture_t *f = *state;
    const char *before, *record;

    start_roll(f);
    before = shared(f, "acme_account+key");
    script_drop(f->script, "POST /key-change");
    script_add(f->script, "POST /key-change", 503, "", "");
    script_drop(f->script, "POST /acct/1");
    script_add(f->script, "POST /acct/1", 503, "", "");
    assert_int_not_equal(acme_account_roll_key(f->account, &f->err), APR_SUCCESS);
    record = pending(f);
    assert_non_null(record);
    /* It is not forgotten as long as the CA does not answer. */
    script_restart(f);
    assert_int_not_equal(acme_account_ensure(f->account, &f->err), APR_SUCCESS);
    assert_int_equal(f->err.kind, BASE_ERROR_CA_DOWN);
    script_drop(f->script, "POST /acct/1");
    script_add(f->script, "POST /acct/1", 403, "", "{\"type\":\"" PROBLEM "userActionRequired\"}");
    script_add(f->script, "POST /account", 403, "", "{\"type\":\"" PROBLEM "userActionRequired\"}");
    assert_int_not_equal(acme_account_ensure(f->account, &f->err), APR_SUCCESS);
    assert_string_equal(f->err.type, "userActionRequired");
    assert_string_equal(pending(f), record);
    script_drop(f->script, "POST /account");
    script_add(f->script, "POST /account", 201, "Location: /acct/1\r\n", "{\"status\":\"valid\"}");
    script_drop(f->script, "POST /acct/1");
    script_add(f->script, "POST /acct/1", 200, "", "{}");
    assert_works(f);
    assert_string_equal(shared(f, "acme_account+key"), before);
    /* An old one of another directory is left alone, an old one of another key is not. */
    assert_int_equal(cache_put(f->cache, AUTOCERT_CACHE_PRIVATE, PENDING, record, strlen(record), f->pool),
                     APR_SUCCESS);
    f->script->judge = NULL;
    store(f, "acme_account+key", make_key(f, CRYPTO_KEY_P256));
    script_restart(f);
    assert_int_equal(acme_account_ensure(f->account, &f->err), APR_SUCCESS);
    assert_null(pending(f));
    assert_int_equal(cache_put(f->cache, AUTOCERT_CACHE_PRIVATE, PENDING, "{}\nx", 4, f->pool), APR_SUCCESS);
    script_restart(f);
    assert_int_equal(acme_account_ensure(f->account, &f->err), APR_SUCCESS);
    assert_non_null(pending(f));
}

/* A CA that lets no account be read, as Pebble lets none be changed by nothing. */
static void test_roll_unreadable(void **state)
{
    fixture_t *f = *state;
    int done;

    start_roll(f);
    script_drop(f->script, "POST /acct/1");
    script_add(f->script, "POST /acct/1", 405, "", "{\"type\":\"" PROBLEM "malformed\"}");
    for (done = 0; done < 2; done++) {
        const char *before = shared(f, "acme_account+key");

        f->script->loses_answers = done;
        script_drop(f->script, "POST /key-change");
        script_add(f->script, "POST /key-change", SCRIPT_LOST, "", "");
        assert_int_equal(acme_account_roll_key(f->account, &f->err) == APR_SUCCESS, done);
        assert_int_equal(strcmp(shared(f, "acme_account+key"), before) != 0, done);
        assert_works(f);
    }
}

/* A CA that lost all it knew has neither key: the account is made anew with the old one. */
static void test_roll_forgotten(void **state)
{
    fixture_t *f = *state;

    start_roll(f);
    script_drop(f->script, "POST /key-change");
    script_add(f->script, "POST /key-change", 503, "", "");
    script_drop(f->script, "POST /acct/1");
    script_add(f->script, "POST /acct/1", 503, "", "");
    assert_int_not_equal(acme_account_roll_key(f->account, &f->err), APR_SUCCESS);
    f->script->judge = NULL;
    script_drop(f->script, "POST /acct/1");
    script_add(f->script, "POST /acct/1", 400, "", NO_ACCOUNT);
    script_drop(f->script, "POST /order");
    script_add(f->script, "POST /order", 400, "", NO_ACCOUNT);
    script_add(f->script, "POST /order", 200, "", "{}");
    script_restart(f);
    assert_int_not_equal(order(f), APR_SUCCESS);
    assert_int_equal(f->err.kind, BASE_ERROR_GONE);
    assert_null(pending(f));
    assert_int_equal(order(f), APR_SUCCESS);
    assert_int_equal(registrations(f), 2);
}

/* Another process: the old key in memory, the new one in the cache. */
static void test_roll_elsewhere(void **state)
{
    fixture_t *f = *state;
    acme_account_t *other, *roller;
    const char *authorization;

    start_roll(f);
    other = f->account;
    authorization = acme_account_key_authorization(other, "t", f->pool);
    script_restart(f);
    roller = f->account;
    assert_int_equal(acme_account_roll_key(roller, &f->err), APR_SUCCESS);
    f->account = other;
    assert_int_equal(order(f), APR_SUCCESS);
    assert_string_not_equal(acme_account_key_authorization(other, "t", f->pool), authorization);
    assert_string_equal(acme_account_key_authorization(other, "t", f->pool),
                        acme_account_key_authorization(roller, "t", f->pool));
    assert_int_equal(script_seen(f->script, "POST /order"), 2);
    assert_int_equal(registrations(f), 1);
    /* Refused although the key is right: once is enough. */
    script_drop(f->script, "POST /order");
    script_add(f->script, "POST /order", 400, "", "{\"type\":\"" PROBLEM "malformed\"}");
    assert_int_not_equal(order(f), APR_SUCCESS);
    assert_int_equal(script_seen(f->script, "POST /order"), 3);
    /* Rolling with the old key in memory uses the cache's. */
    assert_int_equal(acme_account_roll_key(roller, &f->err), APR_SUCCESS);
    assert_int_equal(acme_account_roll_key(other, &f->err), APR_SUCCESS);
    f->account = roller;
    script_drop(f->script, "POST /order");
    script_add(f->script, "POST /order", 200, "", "{}");
    assert_works(f);
}

typedef struct orders_t {
    fixture_t *f;
    acme_account_t *account;
    apr_pool_t *pool;
    int failed;
} orders_t;

static void *order_many(void *data)
{
    orders_t *orders = data;
    acme_client_request_t request = { 0 };
    acme_client_answer_t answer;
    base_error_t err;
    int i;

    for (i = 0; i < 20; i++) {
        request.url = apr_pstrcat(orders->pool, orders->f->script->server->url, "/order", NULL);
        request.payload = "{}";
        orders->failed += acme_account_post(orders->account, &request, &answer, orders->pool, &err)
                          != APR_SUCCESS;
        orders->failed += acme_account_key_authorization(orders->account, "t", orders->pool) == NULL;
    }
    return NULL;
}

/* Threads at work while the key changes under them, by their own process and by another one. */
static void test_roll_threads(void **state)
{
    fixture_t *f = *state;
    pthread_t threads[4];
    orders_t orders[4];
    acme_account_t *shared_account;
    int i, round;

    start_roll(f);
    shared_account = f->account;
    script_restart(f);
    for (round = 0; round < 2; round++) {
        for (i = 0; i < 4; i++) {
            orders[i] = (orders_t){ f, shared_account, NULL, 0 };
            apr_pool_create(&orders[i].pool, NULL);
            pthread_create(&threads[i], NULL, order_many, &orders[i]);
        }
        assert_int_equal(acme_account_roll_key(round == 0 ? f->account : shared_account, &f->err),
                         APR_SUCCESS);
        for (i = 0; i < 4; i++) {
            pthread_join(threads[i], NULL);
            assert_int_equal(orders[i].failed, 0);
            apr_pool_destroy(orders[i].pool);
        }
    }
    f->account = shared_account;
    assert_works(f);
}

#define WITH_SERVER(test) cmocka_unit_test_setup_teardown(test, set_up, script_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SERVER(test_register),
        WITH_SERVER(test_other_directory),
        WITH_SERVER(test_terms),
        WITH_SERVER(test_key_survives),
        WITH_SERVER(test_email),
        WITH_SERVER(test_keys),
        WITH_SERVER(test_bad_keys),
        WITH_SERVER(test_deactivated),
        WITH_SERVER(test_forgotten),
        WITH_SERVER(test_threads),
        WITH_SERVER(test_locked),
        WITH_SERVER(test_binding),
        WITH_SERVER(test_binding_crash),
        WITH_SERVER(test_binding_resumed),
        WITH_SERVER(test_binding_missing),
        WITH_SERVER(test_binding_refused),
        WITH_SERVER(test_rsa_wanted),
        WITH_SERVER(test_rsa_not_wanted),
        WITH_SERVER(test_dead),
        WITH_SERVER(test_dead_silently),
        WITH_SERVER(test_roll),
        WITH_SERVER(test_roll_not_possible),
        WITH_SERVER(test_roll_refused),
        WITH_SERVER(test_roll_lost),
        WITH_SERVER(test_roll_lost_and_down),
        WITH_SERVER(test_roll_crashes),
        WITH_SERVER(test_roll_crash_before),
        WITH_SERVER(test_roll_unreadable),
        WITH_SERVER(test_roll_forgotten),
        WITH_SERVER(test_roll_elsewhere),
        WITH_SERVER(test_roll_threads),
    };

    return SERVER_RUN_TESTS(tests);
}
