/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file test_acme_account.h
 * What the tests of an account have in common: a CA that makes one account, and a look into the cache.
 */
#ifndef TEST_ACME_ACCOUNT_H
#define TEST_ACME_ACCOUNT_H

#include "acme/account.h"
#include "test_acme_script.h"

#define PROBLEM "urn:ietf:params:acme:error:"
#define NO_ACCOUNT "{\"type\":\"" PROBLEM "accountDoesNotExist\"}"
#define ONLY_EXISTING "{\"onlyReturnExisting\":true}"

typedef script_fixture_t fixture_t;

static inline int set_up(void **state)
{
    fixture_t *f = script_set_up(state);

    script_add(f->script, "POST /account", 201, "Location: /acct/1\r\n",
               "{\"status\":\"valid\"}");
    script_add(f->script, "POST /acct/1", 200, "", "{\"status\":\"valid\"}");
    return 0;
}

static inline char *stored(fixture_t *f, autocert_cache_space_t space, const char *key)
{
    char *data = NULL;
    apr_size_t len;

    return cache_get(f->cache, space, key, &data, &len, f->pool) == APR_SUCCESS ? data : NULL;
}

static inline char *shared(fixture_t *f, const char *key)
{
    return stored(f, AUTOCERT_CACHE_SHARED, key);
}

static inline void store(fixture_t *f, const char *key, const char *text)
{
    assert_int_equal(cache_put(f->cache, AUTOCERT_CACHE_SHARED, key, text, strlen(text), f->pool),
                     APR_SUCCESS);
}

static inline const char *make_key(fixture_t *f, crypto_key_type_t type)
{
    EVP_PKEY *key = NULL;
    char *pem;
    apr_size_t len;

    assert_int_equal(crypto_key_generate(&key, type, NULL), APR_SUCCESS);
    assert_int_equal(crypto_key_write(&pem, &len, key, f->pool, NULL), APR_SUCCESS);
    EVP_PKEY_free(key);
    return pem;
}

/* A request in the account's name. */
static inline apr_status_t order(fixture_t *f)
{
    acme_client_request_t request = { 0 };
    acme_client_answer_t answer;

    request.url = apr_pstrcat(f->pool, f->script->server->url, "/order", NULL);
    request.payload = "{}";
    base_error_clear(&f->err);
    return acme_account_post(f->account, &request, &answer, f->pool, &f->err);
}

#define WITH_SERVER(test) cmocka_unit_test_setup_teardown(test, set_up, script_tear_down)

#endif
