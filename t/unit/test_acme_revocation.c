/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "acme/revocation.h"
#include "base/base64url.h"
#include "crypto/cert.h"
#include "test_acme_script.h"

#define PROBLEM "urn:ietf:params:acme:error:"
#define DIR "{\"newNonce\":\"/nonce\",\"newAccount\":\"/account\",\"newOrder\":\"/new\"," \
    "\"revokeCert\":\"/revoke\"}"

typedef script_fixture_t fixture_t;

static EVP_PKEY *key;
static X509 *cert;

static int set_up(void **state)
{
    crypto_cert_params_t params = { .cn = "www.example.org", .not_after = apr_time_from_sec(86400) };
    fixture_t *f = script_set_up(state);

    script_drop(f->script, "GET /dir");
    script_add(f->script, "GET /dir", 200, "", DIR);
    script_add(f->script, "POST /account", 201, "Location: /acct/1\r\n", "{}");
    assert_int_equal(crypto_key_generate(&key, CRYPTO_KEY_P256, NULL), APR_SUCCESS);
    params.key = key;
    cert = crypto_cert_new(&params);
    assert_true(X509_sign(cert, key, EVP_sha256()) > 0);
    return 0;
}

static int tear_down(void **state)
{
    X509_free(cert);
    EVP_PKEY_free(key);
    return script_tear_down(state);
}

static apr_status_t send_it(fixture_t *f, EVP_PKEY *signer, acme_revocation_reason_t reason)
{
    return acme_revocation_send(f->account, cert, signer, reason, f->pool, &f->err);
}

/* What is sent, but for the reason: "{"certificate":"..."". */
static const char *expected(fixture_t *f)
{
    unsigned char *der = NULL;
    int len = i2d_X509(cert, &der);
    const char *text = apr_pstrcat(f->pool, "{\"certificate\":\"",
                                   base_base64url_encode(der, (apr_size_t)len, f->pool), "\"", NULL);

    OPENSSL_free(der);
    return text;
}

static const char *sent(fixture_t *f)
{
    return strchr(script_last(f->script, "POST /revoke"), '{');
}

static void test_by_account(void **state)
{
    fixture_t *f = *state;

    script_add(f->script, "POST /revoke", 200, "", "");
    assert_int_equal(send_it(f, NULL, ACME_REVOCATION_SUPERSEDED), APR_SUCCESS);
    assert_int_equal(f->err.kind, BASE_ERROR_NONE);
    assert_string_equal(sent(f), apr_pstrcat(f->pool, expected(f), ",\"reason\":4}", NULL));
    assert_int_equal(script_seen(f->script, "POST /account"), 1);
    /* "Unspecified" is not written. */
    assert_int_equal(send_it(f, NULL, ACME_REVOCATION_UNSPECIFIED), APR_SUCCESS);
    assert_string_equal(sent(f), apr_pstrcat(f->pool, expected(f), "}", NULL));
}

static void test_by_key(void **state)
{
    fixture_t *f = *state;

    script_add(f->script, "POST /revoke", 200, "", "");
    assert_int_equal(send_it(f, key, ACME_REVOCATION_KEY_COMPROMISE), APR_SUCCESS);
    assert_string_equal(sent(f), apr_pstrcat(f->pool, expected(f), ",\"reason\":1}", NULL));
    /* It needs no account. */
    assert_int_equal(script_seen(f->script, "POST /account"), 0);
}

static void test_already(void **state)
{
    fixture_t *f = *state;

    script_add(f->script, "POST /revoke", 400, "", "{\"type\":\"" PROBLEM "alreadyRevoked\"}");
    assert_int_equal(send_it(f, NULL, ACME_REVOCATION_CESSATION), APR_SUCCESS);
    assert_int_equal(f->err.kind, BASE_ERROR_NONE);
    assert_int_equal(f->err.type[0], '\0');
}

static void test_reason(void **state)
{
    fixture_t *f = *state;

    script_add(f->script, "POST /revoke", 400, "", "{\"type\":\"" PROBLEM "badRevocationReason\"}");
    script_add(f->script, "POST /revoke", 200, "", "");
    assert_int_equal(send_it(f, NULL, ACME_REVOCATION_CESSATION), APR_SUCCESS);
    assert_int_equal(script_seen(f->script, "POST /revoke"), 2);
    assert_string_equal(sent(f), apr_pstrcat(f->pool, expected(f), "}", NULL));
    /* Once. */
    script_drop(f->script, "POST /revoke");
    script_add(f->script, "POST /revoke", 400, "", "{\"type\":\"" PROBLEM "badRevocationReason\"}");
    assert_int_not_equal(send_it(f, NULL, ACME_REVOCATION_CESSATION), APR_SUCCESS);
    assert_int_equal(script_seen(f->script, "POST /revoke"), 4);
    assert_int_equal(f->err.kind, BASE_ERROR_OPERATOR);
    /* The first try was done, its answer lost. */
    script_drop(f->script, "POST /revoke");
    script_add(f->script, "POST /revoke", 400, "", "{\"type\":\"" PROBLEM "badRevocationReason\"}");
    script_add(f->script, "POST /revoke", 400, "", "{\"type\":\"" PROBLEM "alreadyRevoked\"}");
    assert_int_equal(send_it(f, NULL, ACME_REVOCATION_CESSATION), APR_SUCCESS);
}

static void test_errors(void **state)
{
    fixture_t *f = *state;

    script_add(f->script, "POST /revoke", 403, "", "{\"type\":\"" PROBLEM "unauthorized\",\"detail\":\"not "
               "yours\"}");
    assert_int_not_equal(send_it(f, key, ACME_REVOCATION_UNSPECIFIED), APR_SUCCESS);
    assert_int_equal(f->err.kind, BASE_ERROR_OPERATOR);
    assert_string_equal(f->err.detail, "not yours");
    script_drop(f->script, "POST /revoke");
    script_add(f->script, "POST /revoke", 500, "", "");
    assert_int_not_equal(send_it(f, NULL, ACME_REVOCATION_UNSPECIFIED), APR_SUCCESS);
    assert_int_equal(f->err.kind, BASE_ERROR_CA_DOWN);
    script_drop(f->script, "GET /dir");
    script_add(f->script, "GET /dir", 200, "",
               "{\"newNonce\":\"/nonce\",\"newAccount\":\"/account\",\"newOrder\":\"/new\"}");
    script_restart(f);
    assert_int_not_equal(send_it(f, NULL, ACME_REVOCATION_UNSPECIFIED), APR_SUCCESS);
    assert_int_equal(f->err.kind, BASE_ERROR_OPERATOR);
    assert_non_null(strstr(f->err.detail, "revokeCert"));
}

#define WITH_SERVER(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SERVER(test_by_account),
        WITH_SERVER(test_by_key),
        WITH_SERVER(test_already),
        WITH_SERVER(test_reason),
        WITH_SERVER(test_errors),
    };

    return SERVER_RUN_TESTS(tests);
}
