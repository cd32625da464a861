/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "acme/client.h"
#include "base/log.h"
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
        { 403, "", "", "{\"type\":\"" PROBLEM "unauthorized\"}", BASE_ERROR_OPERATOR,
          "unauthorized" },
        { 401, "", "{}", "{}", BASE_ERROR_OPERATOR, "" },
        { 403, "", "{}", "{}", BASE_ERROR_OPERATOR, "" },
        { 401, "", "{}", "<html>", BASE_ERROR_CA_DOWN, "" },
        { 409, "", "{}", "{\"type\":\"" PROBLEM "conflict\"}", BASE_ERROR_OPERATOR, "conflict" },
        { 403, "", "{}", "{\"type\":\"" PROBLEM "agreementRequired\"}", BASE_ERROR_OPERATOR,
          "agreementRequired" },
        { 500, "", "{}", "{\"type\":\"about:blank\",\"status\":400}", BASE_ERROR_CA_DOWN, "" },
        { 404, "", "{}", "{\"type\":\"about:blank\"}", BASE_ERROR_GONE, "" },
        { 408, "", "{}", "{\"type\":\"about:blank\"}", BASE_ERROR_CA_DOWN, "" },
        { 425, "", "{}", "{}", BASE_ERROR_CA_DOWN, "" },
        { 400, "", "{}", "{\"type\":7,\"detail\":[]}", BASE_ERROR_OPERATOR, "" },
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

static void test_algorithms(void **state)
{
    fixture_t *f = *state;
    static const struct {
        const char *algorithms;
        const char *words;
    } rows[] = {
        { "[\"RS256\",\"PS256\"]", "no (it takes RS256, PS256: make an account key of the kind RSA and "
          "write \"AutocertCA ... account=FILE\")" },
        { "[\"EdDSA\",\"ES384\"]", "no (it takes EdDSA, ES384: make an account key of the kind P-384 and "
          "write \"AutocertCA ... account=FILE\")" },
        { "[\"EdDSA\",7]", "no (it takes EdDSA, ?, none of which this module has)" },
        { "[]", "no" },
        { "\"RS256\"", "no" }
    };
    size_t i;

    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        script_drop(f->script, "POST /x");
        script_add(f->script, "POST /x", 400, "",
                   apr_psprintf(f->pool, "{\"type\":\"" PROBLEM "badSignatureAlgorithm\",\"detail\":\"no\","
                                "\"algorithms\":%s}", rows[i].algorithms));
        assert_int_not_equal(post(f, "/x", "{}"), APR_SUCCESS);
        assert_int_equal(f->err.kind, BASE_ERROR_OPERATOR);
        assert_string_equal(f->err.detail, rows[i].words);
        assert_non_null(json_object_get(f->answer.problem, "algorithms"));
    }
}

static void test_terms_link(void **state)
{
    fixture_t *f = *state;

    script_add(f->script, "POST /x", 403, "Link: <https://ca.example/tos-2>;rel=\"terms-of-service\"\r\n",
               "{\"type\":\"" PROBLEM "userActionRequired\",\"detail\":\"new terms\"}");
    post(f, "/x", "{}");
    assert_string_equal(f->err.detail, "new terms (see https://ca.example/tos-2)");
}

static void test_profiles(void **state)
{
    fixture_t *f = *state;
    acme_client_directory_t d;
    static const char *const without[] = { "{}", "{\"profiles\":null}", "{\"profiles\":{}}",
                                           "{\"profiles\":[\"a\"]}" };
    size_t i;

    script_drop(f->script, "GET /dir");
    script_add(f->script, "GET /dir", 200, "",
               "{\"newNonce\":\"/n\",\"newOrder\":\"/o\",\"newAccount\":\"/a\",\"keyChange\":\"/k\","
               "\"revokeCert\":\"/r\",\"renewalInfo\":\"/ari\",\"meta\":{\"externalAccountRequired\":true,"
               "\"profiles\":{\"classic\":\"the usual\",\"short\":7}}}");
    assert_int_equal(acme_client_directory(f->client, &d, f->pool, &f->err), APR_SUCCESS);
    /* The second time from memory. */
    assert_int_equal(acme_client_directory(f->client, &d, f->pool, &f->err), APR_SUCCESS);
    assert_int_equal(script_seen(f->script, "GET /dir"), 1);
    assert_int_equal(d.profiles->nelts, 2);
    assert_string_equal(APR_ARRAY_IDX(d.profiles, 0, const char *), "classic");
    assert_string_equal(APR_ARRAY_IDX(d.profiles, 1, const char *), "short");
    assert_true(d.external_account_required);
    assert_non_null(strstr(d.key_change, "/k"));
    assert_non_null(strstr(d.revoke_cert, "/r"));
    assert_non_null(strstr(d.renewal_info, "/ari"));
    for (i = 0; i < sizeof(without) / sizeof(without[0]); i++) {
        clock_offset += ACME_CLIENT_DIRECTORY_AGE + apr_time_from_sec(1);
        script_drop(f->script, "GET /dir");
        script_add(f->script, "GET /dir", 200, "",
                   apr_psprintf(f->pool, "{\"newNonce\":\"/n\",\"newOrder\":\"/o\",\"newAccount\":\"/a\","
                                "\"meta\":%s}", without[i]));
        assert_int_equal(acme_client_directory(f->client, &d, f->pool, &f->err), APR_SUCCESS);
        assert_null(d.profiles);
    }
}

static void test_get(void **state)
{
    fixture_t *f = *state;
    const char *url = apr_pstrcat(f->pool, f->script->server->url, "/info", NULL);

    script_add(f->script, "GET /info", 200, "Retry-After: 60\r\n", "{\"a\":1}");
    script_add(f->script, "GET /info", 404, "", "<html>");
    script_add(f->script, "GET /info", 429, "Retry-After: 60\r\n", "");
    script_add(f->script, "GET /info", 500, "", "");
    assert_int_equal(acme_client_get(f->client, url, &f->answer, f->pool, &f->err), APR_SUCCESS);
    assert_int_equal(base_json_integer(f->answer.json, "a", 0), 1);
    assert_true(f->answer.retry_at > apr_time_now());
    assert_int_not_equal(acme_client_get(f->client, url, &f->answer, f->pool, &f->err), APR_SUCCESS);
    assert_int_equal(f->err.kind, BASE_ERROR_GONE);
    assert_int_not_equal(acme_client_get(f->client, url, &f->answer, f->pool, &f->err), APR_SUCCESS);
    assert_int_equal(f->err.kind, BASE_ERROR_WAIT);
    assert_int_not_equal(acme_client_get(f->client, url, &f->answer, f->pool, NULL), APR_SUCCESS);
    assert_int_equal(script_seen(f->script, "HEAD"), 0);
}

/* Of one line that was logged: the test's own copy. */
static char logged[BASE_LOG_LINE_MAX];
static int logged_count;

static void keep_skew(void *baton, int level, const char *line)
{
    (void)baton;
    if (strstr(line, "AC0232") != NULL) {
        assert_int_equal(level, BASE_LOG_WARNING);
        apr_cpystrn(logged, line, sizeof(logged));
        logged_count++;
    }
}

/* How many lines one request makes, our clock being so many seconds ahead. */
static int skew_lines(fixture_t *f, apr_int64_t ahead, const char *more)
{
    char date[APR_RFC822_DATE_LEN];

    logged_count = 0;
    apr_rfc822_date(date, clock_now() - apr_time_from_sec(ahead));
    script_drop(f->script, "POST /x");
    script_add(f->script, "POST /x", 200, apr_pstrcat(f->pool, "Date: ", date, "\r\n", more, NULL), "{}");
    assert_int_equal(post(f, "/x", "{}"), APR_SUCCESS);
    return logged_count;
}

static void test_skew(void **state)
{
    fixture_t *f = *state;

    base_log_set(keep_skew, NULL);
    assert_int_equal(skew_lines(f, 0, ""), 0);
    assert_int_equal(skew_lines(f, 240, ""), 0);
    assert_int_equal(skew_lines(f, -240, ""), 0);
    assert_int_equal(skew_lines(f, 86400, "Age: 86300\r\n"), 0);
    assert_int_equal(skew_lines(f, 630, ""), 1);
    assert_non_null(strstr(logged, "scripted: the clock of this machine is 10 minutes ahead of that of the"));
    assert_non_null(strstr(logged, "may be judged wrongly"));
    /* Once an hour. */
    assert_int_equal(skew_lines(f, 630, ""), 0);
    clock_offset = apr_time_from_sec(3500);
    assert_int_equal(skew_lines(f, 630, ""), 0);
    clock_offset = apr_time_from_sec(3700);
    assert_int_equal(skew_lines(f, -3 * 86400 - 60, ""), 1);
    assert_non_null(strstr(logged, "3 days behind that of the CA"));
    /* A clock that was set back must not make it silent for years. */
    clock_offset = 0;
    assert_int_equal(skew_lines(f, 7300, ""), 1);
    assert_non_null(strstr(logged, "2 hours ahead"));
    script_drop(f->script, "POST /x");
    script_add(f->script, "POST /x", 200, "Date: yesterday\r\n", "{}");
    assert_int_equal(post(f, "/x", "{}"), APR_SUCCESS);
    base_log_set(NULL, NULL);
}

static void test_about_name(void **state)
{
    static const struct {
        const char *detail;
        int about;
    } rows[] = {
        { "too many certificates (50) already issued for \"example.org\" in the last 168h0m0s, retry after "
          "2026-01-02 03:04:05 UTC: see https://letsencrypt.org/docs/rate-limits/#new-certificates-per-"
          "registered-domain", 1 },
        { "too many certificates (5) already issued for this exact set of identifiers in the last 168h0m0s, "
          "retry after 2026-01-02 03:04:05 UTC: see https://letsencrypt.org/docs/rate-limits/", 1 },
        { "too many failed authorizations (5) for \"www.example.org\" in the last 1h0m0s, retry after "
          "2026-01-02 03:04:05 UTC: see https://letsencrypt.org/docs/rate-limits/", 1 },
        { "too many failed authorizations (5) for \"WWW.Example.ORG\" in the last 1h0m0s", 1 },
        { "too many failed authorizations (5) for \"other.example.org\" in the last 1h0m0s", 0 },
        { "too many certificates (50) already issued for \"example.com\" in the last 168h0m0s", 0 },
        { "too many certificates (50) already issued for \"org\" in the last 168h0m0s", 0 },
        { "too many certificates (50) already issued for \"ample.org\" in the last 168h0m0s", 0 },
        { "too many new orders (300) from this account in the last 3h0m0s, retry after 2026-01-02 03:04:05 "
          "UTC: see https://letsencrypt.org/docs/rate-limits/#new-orders-per-account", 0 },
        { "too many new registrations (10) from this IP address in the last 3h0m0s", 0 },
        { "too many new registrations (500) from this /48 subnet of IPv6 addresses in the last 3h0m0s", 0 },
        { "Error creating new order :: too many certificates already issued for: example.org", 1 },
        { "too many certificates already issued for exact set of domains: www.example.org", 1 },
        { "Your account is temporarily prevented from requesting certificates for www.example.org and "
          "possibly others. Please visit: https://portal.example/unpause?jwt=x", 1 },
        { "slow down (www.example.org: too many failures)", 1 },
        { "slow down (mail.example.com: too many failures; *.example.org: too many)", 1 },
        { "slow down (mail.example.com: too many failures)", 0 },
        { "limit for mail.example.com, example.org.", 1 },
        /* The CA happens to stand under the same domain. */
        { "too many requests, see https://example.org/limits", 0 },
        { "too many requests, see https://ca/for example.org", 0 },
        { "too many requests to example.org", 0 },
        { "before www.example.org", 0 },
        { "", 0 }
    };
    base_error_t err;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        base_error_set(&err, BASE_ERROR_WAIT, APR_EGENERAL, "%s", rows[i].detail);
        apr_cpystrn(err.type, "rateLimited", sizeof(err.type));
        if (acme_client_is_about_name(&err, "www.example.org") != rows[i].about) {
            print_error("row %d: %s\n", (int)i, rows[i].detail);
        }
        assert_int_equal(acme_client_is_about_name(&err, "www.example.org"), rows[i].about);
        apr_cpystrn(err.type, "compound", sizeof(err.type));
        assert_int_equal(acme_client_is_about_name(&err, "www.example.org"), rows[i].about);
        apr_cpystrn(err.type, "rejectedIdentifier", sizeof(err.type));
        assert_false(acme_client_is_about_name(&err, "www.example.org"));
    }
}

/* Wildcards by themselves or their base, addresses also by a network around them. */
static void test_about_identifier(void **state)
{
    static const struct {
        const char *name, *detail;
        int about;
    } rows[] = {
        { "*.example.org", "too many for \"*.example.org\" in the last 1h0m0s", 1 },
        { "*.example.org", "too many for \"example.org\" in the last 1h0m0s", 1 },
        { "*.www.example.org", "too many for \"example.org\"", 1 },
        { "*.example.org", "too many for \"www.example.org\"", 0 },
        { "*.example.org", "too many for \"*.www.example.org\"", 0 },
        { "*.example.org", "too many for \"org\"", 0 },
        { "*.example.org", "this exact set of identifiers", 1 },
        { "192.0.2.1", "this exact set of identifiers", 1 },
        { "192.0.2.1", "too many for \"192.0.2.1\"", 1 }, { "192.0.2.1", "too many for: 192.0.2.1.", 1 },
        { "192.0.2.1", "too many for \"192.0.2.1/32\"", 1 },
        { "192.0.2.1", "too many for \"192.0.2.0/24\"", 1 },
        { "192.0.2.1", "too many for \"192.0.2.2\"", 0 },
        { "192.0.2.1", "too many for \"192.0.2.0/32\"", 0 },
        { "192.0.2.1", "too many for \"192.0.0.0/16\"", 0 },
        { "192.0.2.1", "too many for \"192.0.2.1/33\"", 0 },
        { "192.0.2.1", "too many for \"192.0.2.1/\"", 0 }, { "192.0.2.1", "too many for 192.0.2.1/ 32", 0 },
        { "192.0.2.1", "too many for \"2.1\"", 0 }, { "192.0.2.1", "too many for \"192.0.2.10\"", 0 },
        { "192.0.2.1", "too many for \"192.0.2.129/25\"", 0 },
        { "192.0.2.1", "too many for \"192.0.2.3/25\"", 1 },
        { "192.0.2.1", "too many from 192.0.2.1", 0 }, { "192.0.2.1", "see https://192.0.2.1/x", 0 },
        { "192.0.2.1", "too many (192.0.2.1: too many failures)", 1 },
        { "192.0.2.1", "too many (192.0.2.2: too many; 192.0.2.1: too many)", 1 },
        { "2001:db8::1", "too many for \"2001:db8::1\"", 1 },
        { "2001:db8::1", "too many for \"2001:0DB8:0:0::1\"", 1 },
        { "2001:db8::1", "too many for \"2001:db8::/64\" in the last 168h", 1 },
        { "2001:db8::1", "too many for \"2001:db8:0:1::/64\"", 0 },
        { "2001:db8::1", "too many for \"2001:db8::/32\"", 0 },
        { "2001:db8::1", "too many for \"2001:db8::/129\"", 0 },
        { "2001:db8::1", "too many (2001:db8::1: too many failures)", 1 },
        { "2001:db8::", "limit for 192.0.2.1, 2001:db8::: too many", 1 },
        { "2001:db8::1", "too many registrations from this /48 subnet of IPv6 addresses", 0 },
        { "2001:db8::1", "too many for \"1:1:1:1:1:1:1:1:1:1:1:1:1:1:1:1:1:1:1:1:1:1:1:1:1:1:1:1:1:1\"", 0 },
        { "2001:db8::1", "for :::::::::::::::::::::::::::::::::::::::::::::::::::::::::::://///", 0 },
        { "2001:db8::1", "for /64", 0 }, { "2001:db8::1", "for .", 0 }, { "2001:db8::1", "", 0 },
        { "2001:db8::1", "for \"192.0.2.1\"", 0 }, { "192.0.2.1", "for \"::ffff:192.0.2.1\"", 1 },
    };
    base_error_t err;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        base_error_set(&err, BASE_ERROR_WAIT, APR_EGENERAL, "%s", rows[i].detail);
        apr_cpystrn(err.type, "rateLimited", sizeof(err.type));
        if (acme_client_is_about_name(&err, rows[i].name) != rows[i].about) {
            fail_msg("%s: %s", rows[i].name, rows[i].detail);
        }
    }
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

    static const char *const ours[] = { "/account", "/revoke", "/key" };
    const char *info = apr_pstrcat(f->pool, f->script->server->url, "/ari/x.y", NULL);
    int i;

    script_drop(f->script, "GET /dir");
    script_add(f->script, "GET /dir", 200, "",
               "{\"newNonce\":\"/nonce\",\"newOrder\":\"/new\",\"newAccount\":\"/account\","
               "\"revokeCert\":\"/revoke\",\"keyChange\":\"/key\",\"renewalInfo\":\"/ari\"}");
    script_add(f->script, "POST /new", 405, "", "");
    script_add(f->script, "POST /elsewhere", 404, "", "");
    assert_int_equal(directory(f), APR_SUCCESS);
    post(f, "/elsewhere", "");
    assert_int_equal(directory(f), APR_SUCCESS);
    assert_int_equal(script_seen(f->script, "GET /dir"), 1);
    post(f, "/new", "{}");
    assert_int_equal(directory(f), APR_SUCCESS);
    assert_int_equal(script_seen(f->script, "GET /dir"), 2);
    for (i = 0; i < 3; i++) {
        script_add(f->script, apr_pstrcat(f->pool, "POST ", ours[i], NULL), 404, "", "{}");
        post(f, ours[i], "{}");
        assert_int_equal(directory(f), APR_SUCCESS);
        assert_int_equal(script_seen(f->script, "GET /dir"), 3 + i);
    }
    /* An unknown certificate is no reason, a place that is gone is. */
    script_add(f->script, "GET /ari/x.y", 404, "", "{\"type\":\"" PROBLEM "malformed\"}");
    script_add(f->script, "GET /ari/x.y", 404, "", "<html>");
    acme_client_get(f->client, info, &f->answer, f->pool, NULL);
    assert_int_equal(directory(f), APR_SUCCESS);
    assert_int_equal(script_seen(f->script, "GET /dir"), 5);
    acme_client_get(f->client, info, &f->answer, f->pool, NULL);
    assert_int_equal(directory(f), APR_SUCCESS);
    assert_int_equal(script_seen(f->script, "GET /dir"), 6);
}

/* A check asks the CA, whatever is known; it also tells whether there is renewal information. */
static void test_check(void **state)
{
    fixture_t *f = *state;

    assert_int_equal(acme_client_has_renewal_info(f->client), -1);
    assert_int_equal(directory(f), APR_SUCCESS);
    assert_int_equal(acme_client_has_renewal_info(f->client), 0);
    script_drop(f->script, "GET /dir");
    script_add(f->script, "GET /dir", 503, "", "<html>");
    assert_int_equal(directory(f), APR_SUCCESS);
    assert_int_not_equal(acme_client_check(f->client, f->pool, &f->err), APR_SUCCESS);
    assert_int_equal(f->err.kind, BASE_ERROR_CA_DOWN);
    script_drop(f->script, "GET /dir");
    script_add(f->script, "GET /dir", 200, "",
               "{\"newNonce\":\"/nonce\",\"newOrder\":\"/new\",\"newAccount\":\"/account\","
               "\"renewalInfo\":\"/ari\"}");
    assert_int_equal(acme_client_check(f->client, f->pool, &f->err), APR_SUCCESS);
    assert_int_equal(f->err.kind, BASE_ERROR_NONE);
    assert_int_equal(acme_client_has_renewal_info(f->client), 1);
}

#define WITH_SERVER(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_time),
        cmocka_unit_test(test_inner_problem),
        cmocka_unit_test(test_about_name),
        cmocka_unit_test(test_about_identifier),
        WITH_SERVER(test_directory),
        WITH_SERVER(test_directory_bad),
        WITH_SERVER(test_success),
        WITH_SERVER(test_nonce_head),
        WITH_SERVER(test_bad_nonce),
        WITH_SERVER(test_kinds),
        WITH_SERVER(test_rate_limit),
        WITH_SERVER(test_detail),
        WITH_SERVER(test_directory_dropped),
        WITH_SERVER(test_algorithms),
        WITH_SERVER(test_terms_link),
        WITH_SERVER(test_profiles),
        WITH_SERVER(test_get),
        WITH_SERVER(test_skew),
        WITH_SERVER(test_check),
    };

    return SERVER_RUN_TESTS(tests);
}
