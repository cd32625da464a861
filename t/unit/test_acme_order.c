/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "acme/order.h"
#include "test_acme_script.h"

#define PROBLEM "urn:ietf:params:acme:error:"
#define TOKEN "abcdefghijklmnopqrstuvwx"

#define ORDER(status, more) "{\"status\":\"" status "\",\"expires\":\"2027-01-15T08:00:00Z\"," \
    "\"identifiers\":[{\"type\":\"dns\",\"value\":\"www.example.org\"}]," \
    "\"authorizations\":[\"$U/authz\"],\"finalize\":\"$U/finalize\"" more "}"
#define VALID_ORDER ORDER("valid", ",\"certificate\":\"/cert\"")
#define AUTHZ(status, challenge) "{\"status\":\"" status "\",\"identifier\":{\"type\":\"dns\"," \
    "\"value\":\"WWW.example.org\"},\"challenges\":[{\"type\":\"new-kind\",\"url\":\"$U/c0\"}," \
    "{\"type\":\"http-01\",\"token\":\"" TOKEN "\",\"url\":\"$U/c1\",\"status\":" challenge "}," \
    "{\"type\":\"dns-01\",\"token\":\"../../etc\",\"url\":\"$U/c2\",\"status\":\"pending\"}," \
    "{\"type\":\"no-url\",\"token\":\"" TOKEN "\"}]}"

typedef script_fixture_t fixture_t;

static int set_up(void **state)
{
    fixture_t *f = script_set_up(state);

    script_add(f->script, "POST /account", 201, "Location: /acct/1\r\n", "{}");
    assert_int_equal(acme_account_ensure(f->account, &f->err), APR_SUCCESS);
    return 0;
}

static const char *url(fixture_t *f, const char *path)
{
    return apr_pstrcat(f->pool, f->script->server->url, path, NULL);
}

static apr_status_t create(fixture_t *f, const char *headers, const char *body)
{
    script_drop(f->script, "POST /new");
    script_add(f->script, "POST /new", 201, headers, body);
    return acme_order_create(&f->order, f->account, "www.example.org", f->pool, &f->err);
}

static apr_status_t finalize(fixture_t *f)
{
    base_error_clear(&f->err);
    return acme_order_finalize(&f->order, f->account, (const unsigned char *)"csr", 3, f->pool,
                               &f->err);
}

static void start_ready(fixture_t *f)
{
    assert_int_equal(create(f, "Location: /order\r\n", ORDER("ready", "")), APR_SUCCESS);
}

static void test_create(void **state)
{
    fixture_t *f = *state;

    assert_int_equal(create(f, "Location: order\r\n", ORDER("pending", "")), APR_SUCCESS);
    assert_string_equal(f->order->url, url(f, "/order"));
    assert_string_equal(f->order->name, "www.example.org");
    assert_string_equal(f->order->finalize, url(f, "/finalize"));
    assert_int_equal(f->order->status, ACME_ORDER_PENDING);
    assert_int_equal(f->order->expires, apr_time_from_sec(1800000000));
    assert_int_equal(f->order->authorizations->nelts, 1);
    assert_int_equal(f->order->problem.kind, BASE_ERROR_NONE);
    assert_null(f->order->certificate);
    assert_non_null(strstr(script_last(f->script, "POST /new"), "{\"identifiers\":[{\"type\":"
                           "\"dns\",\"value\":\"www.example.org\"}]}"));
}

static void test_create_bad(void **state)
{
    static const char *const bodies[] = {
        "{}", "x",
        "{\"status\":\"pending\",\"finalize\":\"/f\",\"authorizations\":[]}",
        "{\"status\":\"pending\",\"finalize\":\"http://x.example/\",\"authorizations\":[\"/a\"]}",
        "{\"status\":\"pending\",\"finalize\":\"/f\",\"authorizations\":[7]}",
        ORDER("pending", ",\"authorizations\":[1,2,3,4,5,6,7,8,9,10,11]")
    };
    fixture_t *f = *state;
    size_t i;

    for (i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
        assert_int_not_equal(create(f, "Location: /order\r\n", bodies[i]), APR_SUCCESS);
        assert_int_equal(f->err.kind, BASE_ERROR_CA_DOWN);
    }
    assert_non_null(strstr(f->err.detail, "too many"));
    assert_int_not_equal(create(f, "", ORDER("pending", "")), APR_SUCCESS);
    assert_int_equal(f->err.kind, BASE_ERROR_CA_DOWN);
}

static void test_fetch(void **state)
{
    fixture_t *f = *state;

    script_add(f->script, "POST /order", 200, "", ORDER("invalid", ",\"error\":{\"type\":\""
               PROBLEM "caa\",\"detail\":\"CAA forbids\"}"));
    assert_int_equal(acme_order_fetch(&f->order, f->account, url(f, "/order"), f->pool, &f->err),
                     APR_SUCCESS);
    assert_int_equal(f->order->status, ACME_ORDER_INVALID);
    assert_string_equal(f->order->problem.type, "caa");
    script_add(f->script, "POST /old", 404, "", "");
    assert_int_not_equal(acme_order_fetch(&f->order, f->account, url(f, "/old"), f->pool,
                                          &f->err), APR_SUCCESS);
    assert_int_equal(f->err.kind, BASE_ERROR_GONE);
    assert_int_equal(script_seen(f->script, "POST /old"), 1);
}

static void test_authorization(void **state)
{
    fixture_t *f = *state;
    acme_order_authorization_t *authz;
    const acme_order_challenge_t *challenge;

    /* A replica does not know it yet. */
    script_add(f->script, "POST /authz", 404, "", "");
    script_add(f->script, "POST /authz", 500, "", "");
    script_add(f->script, "POST /authz", 200, "", AUTHZ("pending", "\"pending\""));
    assert_int_equal(acme_order_authorization(&authz, f->account, url(f, "/authz"), f->pool,
                                              &f->err), APR_SUCCESS);
    assert_int_equal(script_seen(f->script, "POST /authz"), 3);
    assert_string_equal(authz->identifier, "www.example.org");
    assert_int_equal(authz->challenges->nelts, 3);
    challenge = acme_order_challenge_find(authz, "http-01");
    assert_non_null(challenge);
    assert_string_equal(challenge->token, TOKEN);
    assert_string_equal(challenge->url, url(f, "/c1"));
    assert_int_equal(challenge->problem.kind, BASE_ERROR_NONE);
    assert_null(acme_order_challenge_find(authz, "dns-01"));
    assert_null(acme_order_challenge_find(authz, "new-kind"));
}

static void test_authorization_gone(void **state)
{
    fixture_t *f = *state;
    acme_order_authorization_t *authz;

    script_add(f->script, "POST /authz", 404, "", "");
    assert_int_not_equal(acme_order_authorization(&authz, f->account, url(f, "/authz"), f->pool,
                                                  &f->err), APR_SUCCESS);
    assert_int_equal(f->err.kind, BASE_ERROR_GONE);
    assert_int_equal(script_seen(f->script, "POST /authz"), 5);
}

static void test_accept(void **state)
{
    fixture_t *f = *state;

    script_add(f->script, "POST /c1", 200, "", "{\"status\":\"pending\"}");
    assert_int_equal(acme_order_challenge_accept(f->account, url(f, "/c1"), f->pool, &f->err),
                     APR_SUCCESS);
    assert_int_equal(script_seen(f->script, "POST /c1"), 1);
    assert_non_null(strstr(script_last(f->script, "POST /c1"), " {}"));
    /* The answer was lost, the request was not: it is not repeated. */
    script_add(f->script, "POST /c2", 500, "", "");
    script_add(f->script, "POST /c2", 200, "", "{\"status\":\"processing\"}");
    assert_int_equal(acme_order_challenge_accept(f->account, url(f, "/c2"), f->pool, &f->err),
                     APR_SUCCESS);
    assert_int_equal(script_seen(f->script, "POST /c2"), 2);
    assert_null(strstr(script_last(f->script, "POST /c2"), "{}"));
}

static apr_status_t await(fixture_t *f)
{
    base_error_clear(&f->err);
    return acme_order_authorization_wait(f->account, url(f, "/authz"), "http-01", f->pool,
                                         &f->err);
}

static void test_await(void **state)
{
    fixture_t *f = *state;

    script_add(f->script, "POST /authz", 200, "Retry-After: 0\r\n",
               AUTHZ("pending", "\"processing\""));
    script_add(f->script, "POST /authz", 503, "", "<html>");
    script_add(f->script, "POST /authz", 404, "", "");
    script_add(f->script, "POST /authz", 200, "", AUTHZ("dreaming", "\"valid\""));
    script_add(f->script, "POST /authz", 200, "", AUTHZ("valid", "\"valid\""));
    assert_int_equal(await(f), APR_SUCCESS);
    assert_int_equal(script_seen(f->script, "POST /authz"), 5);
}

static void test_await_retry_after(void **state)
{
    fixture_t *f = *state;
    apr_time_t begin = apr_time_now();

    script_add(f->script, "POST /authz", 200, "Retry-After: 1\r\n",
               AUTHZ("pending", "\"processing\""));
    script_add(f->script, "POST /authz", 200, "", AUTHZ("valid", "\"valid\""));
    assert_int_equal(await(f), APR_SUCCESS);
    assert_true(apr_time_now() - begin > apr_time_from_msec(900));
}

static void test_await_invalid(void **state)
{
    static const char *const bodies[] = {
        AUTHZ("invalid", "\"invalid\",\"error\":{\"type\":\"" PROBLEM
              "connection\",\"detail\":\"Timeout\"}"),
        AUTHZ("pending", "\"invalid\",\"error\":{\"type\":\"" PROBLEM
              "connection\",\"detail\":\"Timeout\"}"),
        AUTHZ("deactivated", "\"pending\"")
    };
    fixture_t *f = *state;
    size_t i;

    for (i = 0; i < 3; i++) {
        script_drop(f->script, "POST /authz");
        script_add(f->script, "POST /authz", 200, "", bodies[i]);
        assert_int_not_equal(await(f), APR_SUCCESS);
        assert_int_equal(f->err.kind, BASE_ERROR_VALIDATION);
        assert_string_equal(f->err.type, i < 2 ? "connection" : "");
    }
}

static void *move_clock(void *data)
{
    (void)data;
    usleep(250000);
    clock_offset = ACME_ORDER_AUTHORIZATION_DEADLINE + apr_time_from_sec(1);
    return NULL;
}

static void test_await_deadline(void **state)
{
    fixture_t *f = *state;
    pthread_t thread;

    script_add(f->script, "POST /authz", 200, "", AUTHZ("pending", "\"processing\""));
    pthread_create(&thread, NULL, move_clock, NULL);
    assert_int_equal(await(f), APR_TIMEUP);
    assert_int_equal(f->err.kind, BASE_ERROR_VALIDATION);
    pthread_join(thread, NULL);
}

static void test_await_limit(void **state)
{
    fixture_t *f = *state;

    /* "Later" beyond the deadline is for the scheduler. */
    script_add(f->script, "POST /authz", 429, "Retry-After: 300\r\n", "");
    assert_int_not_equal(await(f), APR_SUCCESS);
    assert_int_equal(f->err.kind, BASE_ERROR_WAIT);
    script_drop(f->script, "POST /authz");
    script_add(f->script, "POST /authz", 429, "Retry-After: 1\r\n", "");
    script_add(f->script, "POST /authz", 200, "", AUTHZ("valid", "\"valid\""));
    assert_int_equal(await(f), APR_SUCCESS);
}

static void *raise_soon(void *stop)
{
    usleep(200000);
    base_stop_raise(stop);
    return NULL;
}

static void test_await_stop(void **state)
{
    fixture_t *f = *state;
    pthread_t thread;
    apr_time_t begin = apr_time_now();

    script_add(f->script, "POST /authz", 200, "Retry-After: 30\r\n",
               AUTHZ("pending", "\"processing\""));
    pthread_create(&thread, NULL, raise_soon, f->stop);
    assert_int_not_equal(await(f), APR_SUCCESS);
    assert_int_equal(f->err.kind, BASE_ERROR_CANCELLED);
    assert_true(apr_time_now() - begin < apr_time_from_sec(15));    /* half of what the CA said */
    pthread_join(thread, NULL);
}

static void test_deactivate(void **state)
{
    fixture_t *f = *state;

    script_add(f->script, "POST /authz", 403, "", "{}");
    acme_order_authorization_deactivate(f->account, url(f, "/authz"), f->pool);
    assert_non_null(strstr(script_last(f->script, "POST /authz"), "{\"status\":\"deactivated\"}"));
}

static void test_wait_ready(void **state)
{
    fixture_t *f = *state;

    assert_int_equal(create(f, "Location: /order\r\n", ORDER("pending", "")), APR_SUCCESS);
    script_add(f->script, "POST /order", 200, "", ORDER("pending", ""));
    script_add(f->script, "POST /order", 200, "", ORDER("ready", ""));
    script_add(f->script, "POST /order", 200, "", ORDER("invalid", ""));
    assert_int_equal(acme_order_wait_ready(&f->order, f->account, f->pool, &f->err), APR_SUCCESS);
    assert_int_equal(f->order->status, ACME_ORDER_READY);
    f->order->status = ACME_ORDER_PENDING;
    assert_int_not_equal(acme_order_wait_ready(&f->order, f->account, f->pool, &f->err),
                         APR_SUCCESS);
    assert_int_equal(f->err.kind, BASE_ERROR_VALIDATION);
    assert_int_equal(f->order->status, ACME_ORDER_INVALID);
}

static void test_finalize(void **state)
{
    fixture_t *f = *state;
    char *pem;
    apr_size_t len;

    /* Neither Location nor an order in the answer: the order is found all the same. */
    start_ready(f);
    script_add(f->script, "POST /finalize", 200, "", "");
    script_add(f->script, "POST /order", 200, "", ORDER("ready", ""));
    script_add(f->script, "POST /order", 200, "", ORDER("processing", ""));
    script_add(f->script, "POST /order", 404, "", "");
    script_add(f->script, "POST /order", 200, "", ORDER("valid", ""));
    script_add(f->script, "POST /order", 200, "", VALID_ORDER);
    assert_int_equal(finalize(f), APR_SUCCESS);
    assert_int_equal(script_seen(f->script, "POST /finalize"), 1);
    assert_non_null(strstr(script_last(f->script, "POST /finalize"), "{\"csr\":\"Y3Ny\"}"));
    assert_string_equal(f->order->certificate, url(f, "/cert"));
    assert_string_equal(f->order->url, url(f, "/order"));
    script_add(f->script, "POST /cert", 404, "", "");
    script_add(f->script, "POST /cert", 200, "Content-Type: text/plain\r\n", "PEM");
    assert_int_equal(acme_order_certificate(&pem, &len, f->order, f->account, f->pool, &f->err),
                     APR_SUCCESS);
    assert_string_equal(pem, "PEM");
    assert_int_equal(len, 3);
}

static void test_finalize_at_once(void **state)
{
    fixture_t *f = *state;

    start_ready(f);
    script_add(f->script, "POST /finalize", 200, "", VALID_ORDER);
    assert_int_equal(finalize(f), APR_SUCCESS);
    assert_int_equal(script_seen(f->script, "POST /order"), 0);
}

static void test_finalize_not_ready(void **state)
{
    fixture_t *f = *state;

    start_ready(f);
    script_add(f->script, "POST /finalize", 403, "", "{\"type\":\"" PROBLEM "orderNotReady\"}");
    script_add(f->script, "POST /finalize", 200, "", ORDER("processing", ""));
    script_add(f->script, "POST /order", 200, "", ORDER("pending", ""));
    script_add(f->script, "POST /order", 200, "", ORDER("ready", ""));
    script_add(f->script, "POST /order", 200, "", VALID_ORDER);
    assert_int_equal(finalize(f), APR_SUCCESS);
    assert_int_equal(script_seen(f->script, "POST /finalize"), 2);
}

static void test_finalize_lost(void **state)
{
    fixture_t *f = *state;

    start_ready(f);
    script_add(f->script, "POST /finalize", 500, "", "");
    script_add(f->script, "POST /order", 200, "", ORDER("processing", ""));
    script_add(f->script, "POST /order", 200, "", VALID_ORDER);
    assert_int_equal(finalize(f), APR_SUCCESS);
    assert_int_equal(script_seen(f->script, "POST /finalize"), 1);
}

static void test_finalize_failed(void **state)
{
    fixture_t *f = *state;

    start_ready(f);
    script_add(f->script, "POST /finalize", 400, "", "{\"type\":\"" PROBLEM "badCSR\"}");
    assert_int_not_equal(finalize(f), APR_SUCCESS);
    assert_int_equal(f->err.kind, BASE_ERROR_OPERATOR);
    assert_string_equal(f->err.type, "badCSR");

    script_drop(f->script, "POST /finalize");
    script_add(f->script, "POST /finalize", 200, "", ORDER("processing", ""));
    script_add(f->script, "POST /order", 200, "", ORDER("invalid", ",\"error\":{\"type\":\""
               PROBLEM "caa\",\"detail\":\"no\"}"));
    assert_int_not_equal(finalize(f), APR_SUCCESS);
    assert_int_equal(f->err.kind, BASE_ERROR_VALIDATION);
    assert_string_equal(f->err.type, "caa");
}

static void test_finalize_resumed(void **state)
{
    fixture_t *f = *state;

    assert_int_equal(create(f, "Location: /order\r\n", ORDER("processing", "")), APR_SUCCESS);
    script_add(f->script, "POST /order", 200, "", VALID_ORDER);
    assert_int_equal(finalize(f), APR_SUCCESS);
    assert_int_equal(script_seen(f->script, "POST /finalize"), 0);
}

#define WITH_SERVER(test) cmocka_unit_test_setup_teardown(test, set_up, script_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SERVER(test_create),
        WITH_SERVER(test_create_bad),
        WITH_SERVER(test_fetch),
        WITH_SERVER(test_authorization),
        WITH_SERVER(test_authorization_gone),
        WITH_SERVER(test_accept),
        WITH_SERVER(test_await),
        WITH_SERVER(test_await_retry_after),
        WITH_SERVER(test_await_invalid),
        WITH_SERVER(test_await_deadline),
        WITH_SERVER(test_await_limit),
        WITH_SERVER(test_await_stop),
        WITH_SERVER(test_deactivate),
        WITH_SERVER(test_wait_ready),
        WITH_SERVER(test_finalize),
        WITH_SERVER(test_finalize_at_once),
        WITH_SERVER(test_finalize_not_ready),
        WITH_SERVER(test_finalize_lost),
        WITH_SERVER(test_finalize_failed),
        WITH_SERVER(test_finalize_resumed),
    };

    return SERVER_RUN_TESTS(tests);
}
