/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "acme/client.h"
#include "test_acme_script.h"

#define PROBLEM "urn:ietf:params:acme:error:"

typedef struct fixture_t {
    apr_pool_t *pool;
    script_t *script;
    acme_client_config_t *config;
    acme_client_t *client;
    EVP_PKEY *key;
    base_error_t err;
    acme_client_answer_t answer;
} fixture_t;

static int set_up(void **state)
{
    fixture_t *f = calloc(1, sizeof(*f));

    clock_offset = 0;
    apr_pool_create(&f->pool, root);
    f->script = script_start();
    f->config = script_config(f->script, f->pool);
    assert_int_equal(acme_client_create(&f->client, f->config, NULL, clock_now, f->pool),
                     APR_SUCCESS);
    assert_int_equal(crypto_key_generate(&f->key, CRYPTO_KEY_P256, NULL), APR_SUCCESS);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    fixture_t *f = *state;

    EVP_PKEY_free(f->key);
    apr_pool_destroy(f->pool);
    script_stop(f->script);
    free(f);
    return 0;
}

static apr_status_t post(fixture_t *f, const char *path, const char *payload)
{
    acme_client_request_t request = { 0 };

    request.url = apr_pstrcat(f->pool, f->script->server->url, path, NULL);
    request.payload = payload;
    request.key = f->key;
    base_error_clear(&f->err);
    return acme_client_post(f->client, &request, &f->answer, f->pool, &f->err);
}

static apr_status_t directory(fixture_t *f)
{
    acme_client_directory_t d;

    base_error_clear(&f->err);
    return acme_client_directory(f->client, &d, f->pool, &f->err);
}

static void test_time(void **state)
{
    (void)state;
    assert_int_equal(acme_client_time("2027-01-15T08:00:00Z"), apr_time_from_sec(1800000000));
    assert_int_equal(acme_client_time("2027-01-15T08:00:00.123456789Z"),
                     apr_time_from_sec(1800000000));
    assert_int_equal(acme_client_time("2027-01-15 08:00:00 UTC: see"),
                     apr_time_from_sec(1800000000));
    assert_int_equal(acme_client_time("2027-01-15T10:30:00+02:30"),
                     apr_time_from_sec(1800000000));
    assert_int_equal(acme_client_time("2027-01-15T07:00:00-01:00"),
                     apr_time_from_sec(1800000000));
    assert_int_equal(acme_client_time(NULL), 0);
    assert_int_equal(acme_client_time(""), 0);
    assert_int_equal(acme_client_time("2027-01-15"), 0);
    assert_int_equal(acme_client_time("2027-13-15T08:00:00Z"), 0);
    assert_int_equal(acme_client_time("2027-01-15T08:00:00"), 0);
    assert_int_equal(acme_client_time("2027-01-15x08:00:00Z"), 0);
}

static void test_directory(void **state)
{
    fixture_t *f = *state;
    acme_client_directory_t d;

    assert_int_equal(acme_client_directory(f->client, &d, f->pool, &f->err), APR_SUCCESS);
    assert_string_equal(d.terms_of_service, "https://ca.example/tos-1");
    assert_non_null(strstr(d.new_order, "/new"));
    assert_null(d.renewal_info);
    assert_int_equal(directory(f), APR_SUCCESS);
    assert_int_equal(script_seen(f->script, "GET /dir"), 1);
    clock_offset = ACME_CLIENT_DIRECTORY_AGE + apr_time_from_sec(1);
    assert_int_equal(directory(f), APR_SUCCESS);
    assert_int_equal(script_seen(f->script, "GET /dir"), 2);
}

static void test_directory_bad(void **state)
{
    static const char *const bodies[] = {
        "<html>", "{}", "[1]",
        "{\"newNonce\":\"$U/n\",\"newAccount\":\"$U/a\",\"newOrder\":\"http://x.example/\"}",
        "{\"newNonce\":\"$U/n\",\"newOrder\":\"$U/a\",\"newAccount\":7}"
    };
    fixture_t *f = *state;
    size_t i;

    for (i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
        script_drop(f->script, "GET /dir");
        script_add(f->script, "GET /dir", 200, "", bodies[i]);
        assert_int_not_equal(directory(f), APR_SUCCESS);
        assert_int_equal(f->err.kind, BASE_ERROR_CA_DOWN);
        assert_non_null(strstr(f->err.detail, "is not the directory"));
    }
    script_drop(f->script, "GET /dir");
    script_add(f->script, "GET /dir", 404, "", "{}");
    assert_int_not_equal(directory(f), APR_SUCCESS);
    assert_int_equal(f->err.kind, BASE_ERROR_CA_DOWN);
    assert_int_equal(f->err.http_status, 404);
    script_drop(f->script, "GET /dir");
    script_add(f->script, "GET /dir", 200, "",
               "{\"newNonce\":\"/n\",\"newOrder\":\"/o\",\"newAccount\":\"/a\",\"meta\":null}");
    assert_int_equal(directory(f), APR_SUCCESS);
}

static void test_success(void **state)
{
    fixture_t *f = *state;

    script_add(f->script, "POST /x", 201, "Location: order/1\r\nRetry-After: 5\r\n", "{\"a\":7}");
    assert_int_equal(post(f, "/x", "{\"b\":1}"), APR_SUCCESS);
    assert_int_equal(f->answer.http->status, 201);
    assert_int_equal(base_json_integer(f->answer.json, "a", 0), 7);
    assert_string_equal(f->answer.location,
                        apr_pstrcat(f->pool, f->script->server->url, "/order/1", NULL));
    assert_true(f->answer.retry_at > apr_time_now());
    assert_string_equal(script_last(f->script, "POST /x"), "POST /x nonce2 {\"b\":1}");
    /* The nonce of the answer serves the next request. */
    assert_int_equal(post(f, "/x", ""), APR_SUCCESS);
    assert_int_equal(script_seen(f->script, "HEAD /nonce"), 1);
    assert_string_equal(script_last(f->script, "POST /x"), "POST /x nonce3 ");
    /* But not when it is old. */
    clock_offset = ACME_CLIENT_NONCE_AGE + apr_time_from_sec(1);
    assert_int_equal(post(f, "/x", ""), APR_SUCCESS);
    assert_int_equal(script_seen(f->script, "HEAD /nonce"), 2);
}

static void test_nonce_head(void **state)
{
    fixture_t *f = *state;

    script_add(f->script, "POST /x", 200, "Replay-Nonce: not/usable\r\n", "{}");
    script_drop(f->script, "HEAD /nonce");
    script_add(f->script, "HEAD /nonce", 405, "", "");
    script_add(f->script, "GET /nonce", 200, "Replay-Nonce: by-GET\r\n", "");
    assert_int_equal(post(f, "/x", "{}"), APR_SUCCESS);
    assert_string_equal(script_last(f->script, "POST /x"), "POST /x by-GET {}");
    script_drop(f->script, "HEAD /nonce");
    script_add(f->script, "HEAD /nonce", 200, "Replay-Nonce: \r\n", "");
    assert_int_equal(post(f, "/x", "{}"), APR_SUCCESS);
    assert_int_equal(script_seen(f->script, "GET /nonce"), 2);
    script_drop(f->script, "GET /nonce");
    script_add(f->script, "GET /nonce", 500, "Replay-Nonce: x\r\n", "broken");
    assert_int_not_equal(post(f, "/x", "{}"), APR_SUCCESS);
    assert_int_equal(f->err.kind, BASE_ERROR_CA_DOWN);
}

static void test_bad_nonce(void **state)
{
    fixture_t *f = *state;

    script_add(f->script, "POST /x", 400, "Replay-Nonce: second\r\n",
               "{\"type\":\"" PROBLEM "badNonce\"}");
    script_add(f->script, "POST /x", 403, "Replay-Nonce: third\r\n",
               "{\"type\":\"" PROBLEM "badNonce\"}");
    script_add(f->script, "POST /x", 200, "", "{}");
    assert_int_equal(post(f, "/x", "{}"), APR_SUCCESS);
    assert_int_equal(script_seen(f->script, "POST /x second"), 1);
    assert_int_equal(script_seen(f->script, "POST /x third"), 1);
    assert_int_equal(f->err.kind, BASE_ERROR_NONE);
    assert_int_equal(script_seen(f->script, "HEAD /nonce"), 1);

    script_add(f->script, "POST /y", 400, "", "{\"type\":\"" PROBLEM "badNonce\"}");
    assert_int_not_equal(post(f, "/y", "{}"), APR_SUCCESS);
    assert_int_equal(f->err.kind, BASE_ERROR_CA_DOWN);
    assert_int_equal(script_seen(f->script, "POST /y"), ACME_CLIENT_NONCE_RETRIES + 1);
}

static void test_kinds(void **state)
{
    static const struct {
        int status;
        const char *headers;
        const char *payload;
        const char *body;
        base_error_kind_t kind;
        const char *type;
    } cases[] = {
        { 429, "", "{}", "{\"type\":\"" PROBLEM "rateLimited\",\"detail\":\"slow\"}",
          BASE_ERROR_WAIT, "rateLimited" },
        { 400, "", "{}", "{\"type\":\"" PROBLEM "rateLimited\"}", BASE_ERROR_WAIT,
          "rateLimited" },
        { 429, "", "{}", "<html>", BASE_ERROR_WAIT, "" },
        { 429, "", "{}", "{\"type\":\"" PROBLEM "rateLimited\",\"detail\":\"Your account is "
          "temporarily prevented from requesting\"}", BASE_ERROR_OPERATOR, "rateLimited" },
        { 503, "Retry-After: 7\r\n", "{}", "<html>", BASE_ERROR_WAIT, "" },
        { 503, "", "{}", "<html>", BASE_ERROR_CA_DOWN, "" },
        { 500, "", "{}", "{\"type\":\"" PROBLEM "serverInternal\"}", BASE_ERROR_CA_DOWN,
          "serverInternal" },
        { 500, "", "{}", "{}", BASE_ERROR_CA_DOWN, "" },
        { 501, "", "{}", "{\"type\":\"" PROBLEM "rejectedIdentifier\"}", BASE_ERROR_OPERATOR,
          "rejectedIdentifier" },
        { 403, "", "{}", "<html>", BASE_ERROR_CA_DOWN, "" },
        { 404, "", "{}", "<html>", BASE_ERROR_CA_DOWN, "" },
        { 404, "", "{}", "{\"type\":\"" PROBLEM "malformed\"}", BASE_ERROR_GONE, "malformed" },
        { 404, "", "", "", BASE_ERROR_GONE, "" },
        { 400, "", "", "{\"type\":\"" PROBLEM "accountDoesNotExist\"}", BASE_ERROR_GONE,
          "accountDoesNotExist" },
        { 401, "", "", "{\"type\":\"" PROBLEM "unauthorized\"}", BASE_ERROR_OPERATOR,
          "unauthorized" },
        { 409, "", "{}", "{\"type\":\"about:blank\",\"detail\":\"x\"}", BASE_ERROR_OPERATOR, "" },
        { 400, "", "{}", "{\"type\":\"" PROBLEM "compound\",\"subproblems\":[{\"type\":\"" PROBLEM
          "malformed\"},{\"type\":\"" PROBLEM "rateLimited\"}]}", BASE_ERROR_WAIT, "compound" },
        { 307, "Location: /y\r\n", "{}", "", BASE_ERROR_CA_DOWN, "" }
    };
    fixture_t *f = *state;
    size_t i;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        script_drop(f->script, "POST /x");
        script_add(f->script, "POST /x", cases[i].status, cases[i].headers, cases[i].body);
        assert_int_not_equal(post(f, "/x", cases[i].payload), APR_SUCCESS);
        if (f->err.kind != cases[i].kind) {
            print_error("case %d\n", (int)i);
        }
        assert_int_equal(f->err.kind, cases[i].kind);
        assert_string_equal(f->err.type, cases[i].type);
        assert_int_equal(f->err.http_status, cases[i].status);
        assert_int_not_equal(f->err.detail[0], '\0');
        assert_int_not_equal(f->err.status, APR_SUCCESS);
        assert_true(f->err.kind != BASE_ERROR_WAIT || f->err.retry_at > apr_time_now());
    }
}

static apr_interval_time_t retry_in(fixture_t *f, const char *headers, const char *detail)
{
    script_drop(f->script, "POST /x");
    script_add(f->script, "POST /x", 429, headers,
               apr_psprintf(f->pool, "{\"type\":\"" PROBLEM "rateLimited\",\"detail\":\"%s\"}",
                            detail));
    assert_int_not_equal(post(f, "/x", "{}"), APR_SUCCESS);
    return f->err.retry_at - clock_now();
}

static void assert_about(apr_interval_time_t is, int seconds)
{
    assert_true(is > apr_time_from_sec(seconds - 10) && is < apr_time_from_sec(seconds + 10));
}

static void test_rate_limit(void **state)
{
    fixture_t *f = *state;

    /* The clock stands before the moment that the detail names. */
    clock_offset = apr_time_from_sec(1800000000) - apr_time_now();
    assert_about(retry_in(f, "Retry-After: 120\r\n", "x"), 120);
    assert_about(retry_in(f, "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
                          "Retry-After: Sun, 06 Nov 1994 08:54:37 GMT\r\n", "x"), 300);
    assert_about(retry_in(f, "", "too many certificates (5), retry after 2027-01-15 08:30:00 UTC: "
                          "see https://ca.example"), 1800);
    assert_about(retry_in(f, "", "too many"), 3600);
    assert_about(retry_in(f, "Retry-After: 0\r\n", "too many"), 3600);
    assert_about(retry_in(f, "Retry-After: -1\r\n", "retry after 1999-01-15 08:30:00 UTC"), 3600);
}

static void test_detail(void **state)
{
    fixture_t *f = *state;

    script_add(f->script, "POST /x", 400, "",
               "{\"type\":\"" PROBLEM "rejectedIdentifier\",\"detail\":\"bad\\nnames\","
               "\"subproblems\":[{\"type\":\"" PROBLEM "caa\",\"detail\":\"one\","
               "\"identifier\":{\"type\":\"dns\",\"value\":\"a.example\"}},"
               "{\"type\":\"" PROBLEM "dns\"}]}");
    script_add(f->script, "POST /y", 403, "",
               "{\"type\":\"" PROBLEM "userActionRequired\",\"detail\":\"new terms\","
               "\"instance\":\"https://ca.example/agree\"}");
    post(f, "/x", "{}");
    assert_string_equal(f->err.detail, "bad?names (a.example: one; dns: dns)");
    post(f, "/y", "{}");
    assert_int_equal(f->err.kind, BASE_ERROR_OPERATOR);
    assert_string_equal(f->err.detail, "new terms (see https://ca.example/agree)");
}

static void test_inner_problem(void **state)
{
    base_error_t err;
    json_t *json = json_pack("{s:s, s:s}", "type", PROBLEM "connection", "detail", "Timeout");

    (void)state;
    acme_client_problem(&err, json, "nothing");
    assert_int_equal(err.kind, BASE_ERROR_VALIDATION);
    assert_string_equal(err.type, "connection");
    assert_string_equal(err.detail, "Timeout");
    acme_client_problem(&err, NULL, "nothing");
    assert_int_equal(err.kind, BASE_ERROR_VALIDATION);
    assert_string_equal(err.type, "");
    assert_string_equal(err.detail, "nothing");
    json_decref(json);
}

static void test_directory_dropped(void **state)
{
    fixture_t *f = *state;

    script_add(f->script, "POST /new", 405, "", "");
    script_add(f->script, "POST /elsewhere", 404, "", "");
    assert_int_equal(directory(f), APR_SUCCESS);
    post(f, "/elsewhere", "");
    assert_int_equal(directory(f), APR_SUCCESS);
    assert_int_equal(script_seen(f->script, "GET /dir"), 1);
    post(f, "/new", "{}");
    assert_int_equal(directory(f), APR_SUCCESS);
    assert_int_equal(script_seen(f->script, "GET /dir"), 2);
}

#define WITH_SERVER(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_time),
        cmocka_unit_test(test_inner_problem),
        WITH_SERVER(test_directory),
        WITH_SERVER(test_directory_bad),
        WITH_SERVER(test_success),
        WITH_SERVER(test_nonce_head),
        WITH_SERVER(test_bad_nonce),
        WITH_SERVER(test_kinds),
        WITH_SERVER(test_rate_limit),
        WITH_SERVER(test_detail),
        WITH_SERVER(test_directory_dropped),
    };

    return SERVER_RUN_TESTS(tests);
}
