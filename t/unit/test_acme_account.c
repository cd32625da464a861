/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <apr_tables.h>

#include "acme/account.h"
#include "test_acme_script.h"

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
    };

    return SERVER_RUN_TESTS(tests);
}
