/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "acme/renewal_info.h"
#include "test_acme_script.h"

#define ID "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE"
#define BETWEEN(start, end) "\"suggestedWindow\":{\"start\":\"" start "\",\"end\":\"" end "\"}"
#define WINDOW BETWEEN("2027-01-15T08:00:00Z", "2027-01-15T10:00:00.5+01:00")

typedef script_fixture_t fixture_t;

static int set_up(void **state)
{
    fixture_t *f = script_set_up(state);

    script_drop(f->script, "GET /dir");
    script_add(f->script, "GET /dir", 200, "", "{\"newNonce\":\"/nonce\",\"newAccount\":\"/account\","
               "\"newOrder\":\"/new\",\"renewalInfo\":\"$U/ari\"}");
    return 0;
}

static apr_status_t fetch(fixture_t *f, acme_renewal_info_t *info)
{
    memset(info, 0x55, sizeof(*info));
    return acme_renewal_info_fetch(info, acme_account_client(f->account), ID, f->pool, &f->err);
}

static void answer(fixture_t *f, int status, const char *headers, const char *body)
{
    script_drop(f->script, "GET /ari/" ID);
    script_add(f->script, "GET /ari/" ID, status, headers, body);
}

static void test_window(void **state)
{
    fixture_t *f = *state;
    acme_renewal_info_t info;

    answer(f, 200, "Retry-After: 21600\r\n",
           "{" WINDOW ",\"explanationURL\":\"https://ca.example/why\",\"x\":1}");
    assert_int_equal(fetch(f, &info), APR_SUCCESS);
    assert_int_equal(f->err.kind, BASE_ERROR_NONE);
    assert_int_equal(info.start, apr_time_from_sec(1800000000));
    assert_int_equal(info.end, apr_time_from_sec(1800003600));
    assert_true(info.retry_at > apr_time_now() + apr_time_from_sec(21000));
    assert_true(info.retry_at < apr_time_now() + apr_time_from_sec(22000));
    assert_string_equal(info.explanation, "https://ca.example/why");
    /* No signature, no nonce. */
    assert_int_equal(script_seen(f->script, "POST"), 0);
    assert_int_equal(script_seen(f->script, "HEAD"), 0);
}

static void test_without_the_rest(void **state)
{
    static const char *const headers[] = {
        "", "Retry-After: 0\r\n", "Retry-After: -7\r\n", "Retry-After: x\r\n"
    };
    static const char *const urls[] = { "7", "\"javascript:x\"", "\"\"", "\"https://a b/\"" };
    fixture_t *f = *state;
    acme_renewal_info_t info;
    size_t i;

    for (i = 0; i < 4; i++) {
        answer(f, 200, headers[i], apr_psprintf(f->pool, "{" WINDOW ",\"explanationURL\":%s}", urls[i]));
        assert_int_equal(fetch(f, &info), APR_SUCCESS);
        assert_int_equal(info.retry_at, 0);
        assert_null(info.explanation);
    }
}

static void test_none(void **state)
{
    fixture_t *f = *state;
    acme_renewal_info_t info;

    script_drop(f->script, "GET /dir");
    script_add(f->script, "GET /dir", 200, "",
               "{\"newNonce\":\"/nonce\",\"newAccount\":\"/account\",\"newOrder\":\"/new\"}");
    script_restart(f);
    assert_int_equal(fetch(f, &info), APR_ENOTIMPL);
    assert_int_equal(f->err.kind, BASE_ERROR_NONE);
    assert_int_equal(script_seen(f->script, "GET"), 1);
}

static void test_slash(void **state)
{
    fixture_t *f = *state;
    acme_renewal_info_t info;

    script_drop(f->script, "GET /dir");
    script_add(f->script, "GET /dir", 200, "", "{\"newNonce\":\"/nonce\",\"newAccount\":\"/account\","
               "\"newOrder\":\"/new\",\"renewalInfo\":\"$U/ari/\"}");
    answer(f, 200, "", "{" WINDOW "}");
    assert_int_equal(fetch(f, &info), APR_SUCCESS);
}

static void test_errors(void **state)
{
    static const struct {
        int status;
        const char *headers;
        const char *body;
        base_error_kind_t kind;
    } rows[] = {
        { 200, "", "<html>", BASE_ERROR_OPERATOR },
        { 200, "", "{}", BASE_ERROR_OPERATOR },
        { 200, "", "{\"suggestedWindow\":[]}", BASE_ERROR_OPERATOR },
        { 200, "", "{\"suggestedWindow\":{\"start\":\"2027-01-15T08:00:00Z\"}}", BASE_ERROR_OPERATOR },
        { 200, "", "{" BETWEEN("soon", "2027-01-15T08:00:00Z") "}",
          BASE_ERROR_OPERATOR },
        { 200, "", "{" BETWEEN("2027-01-15T08:00:01Z", "2027-01-15T08:00:00Z") "}",
          BASE_ERROR_OPERATOR },
        { 200, "", "{" BETWEEN("2027-01-15T08:00:00Z", "2027-01-15T08:00:00Z") "}",
          BASE_ERROR_OPERATOR },
        { 400, "", "{\"type\":\"urn:ietf:params:acme:error:malformed\"}", BASE_ERROR_OPERATOR },
        { 403, "", "<html>", BASE_ERROR_OPERATOR },
        { 404, "", "<html>", BASE_ERROR_GONE },
        { 404, "", "{\"type\":\"urn:ietf:params:acme:error:malformed\"}", BASE_ERROR_GONE },
        { 429, "Retry-After: 60\r\n", "", BASE_ERROR_WAIT },
        { 503, "Retry-After: 60\r\n", "", BASE_ERROR_WAIT },
        { 503, "", "<html>", BASE_ERROR_CA_DOWN },
        { 500, "", "{}", BASE_ERROR_CA_DOWN },
        { SCRIPT_LOST, "", "", BASE_ERROR_CA_DOWN }
    };
    fixture_t *f = *state;
    acme_renewal_info_t info;
    size_t i;

    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        answer(f, rows[i].status, rows[i].headers, rows[i].body);
        assert_int_not_equal(fetch(f, &info), APR_SUCCESS);
        if (f->err.kind != rows[i].kind) {
            print_error("row %d\n", (int)i);
        }
        assert_int_equal(f->err.kind, rows[i].kind);
        assert_true(f->err.kind != BASE_ERROR_WAIT || f->err.retry_at > apr_time_now());
    }
    base_stop_raise(f->stop);
    assert_int_not_equal(fetch(f, &info), APR_SUCCESS);
    assert_int_equal(f->err.kind, BASE_ERROR_CANCELLED);
}

#define WITH_SERVER(test) cmocka_unit_test_setup_teardown(test, set_up, script_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SERVER(test_window),
        WITH_SERVER(test_without_the_rest),
        WITH_SERVER(test_none),
        WITH_SERVER(test_slash),
        WITH_SERVER(test_errors),
    };

    return SERVER_RUN_TESTS(tests);
}
