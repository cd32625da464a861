/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "test_acme_account.h"
#include "test_acme_signer.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
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
