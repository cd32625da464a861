/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "test_acme_account.h"

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

/* The lines of the configuration change places: each CA keeps its account, and its key its name. */
static void test_places_change(void **state)
{
    fixture_t *f = *state;
    const char *own = apr_pstrcat(f->pool, "acme_account+key+", f->config->id, NULL);
    const char *record = apr_pstrcat(f->pool, "account+", f->config->id, NULL);
    static const char foreign[] = "{\"directory\":\"x\",\"key\":\"../secret\"}";
    char *key;

    f->config->first = 1;
    script_restart(f);
    assert_int_equal(acme_account_ensure(f->account, &f->err), APR_SUCCESS);
    key = shared(f, "acme_account+key");
    assert_non_null(key);
    f->config->first = 0;
    script_restart(f);
    assert_int_equal(acme_account_ensure(f->account, &f->err), APR_SUCCESS);
    assert_int_equal(script_seen(f->script, "POST /account"), 1);
    assert_string_equal(shared(f, "acme_account+key"), key);
    assert_null(shared(f, own));
    /* a record that cannot be meant */
    assert_int_equal(cache_put(f->cache, AUTOCERT_CACHE_PRIVATE, record, foreign, strlen(foreign), f->pool),
                     APR_SUCCESS);
    script_restart(f);
    assert_int_equal(acme_account_ensure(f->account, &f->err), APR_SUCCESS);
    assert_non_null(shared(f, own));
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

/* ---- accounts that are no more ---- */

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SERVER(test_other_directory),
        WITH_SERVER(test_key_survives),
        WITH_SERVER(test_places_change),
        WITH_SERVER(test_keys),
        WITH_SERVER(test_bad_keys),
        WITH_SERVER(test_forgotten),
        WITH_SERVER(test_threads),
        WITH_SERVER(test_locked),
        WITH_SERVER(test_dead),
        WITH_SERVER(test_dead_silently),
    };

    return SERVER_RUN_TESTS(tests);
}
