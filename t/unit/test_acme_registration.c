/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <apr_tables.h>

#include "test_acme_account.h"

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

/* ---- external account binding ---- */

#define EAB_DIR "{\"newNonce\":\"$U/nonce\",\"newAccount\":\"$U/account\",\"newOrder\":\"$U/new\"," \
    "\"meta\":{\"externalAccountRequired\":true}}"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SERVER(test_register),
        WITH_SERVER(test_terms),
        WITH_SERVER(test_email),
        WITH_SERVER(test_deactivated),
        WITH_SERVER(test_binding),
        WITH_SERVER(test_binding_crash),
        WITH_SERVER(test_binding_resumed),
        WITH_SERVER(test_binding_missing),
        WITH_SERVER(test_binding_refused),
        WITH_SERVER(test_rsa_wanted),
        WITH_SERVER(test_rsa_not_wanted),
    };

    return SERVER_RUN_TESTS(tests);
}
