/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "acme/authorization.h"
#include "base/identifier.h"
#include "test_acme_order.h"

#define TOKEN "abcdefghijklmnopqrstuvwx"

#define AUTHZ(status, challenge) "{\"status\":\"" status "\",\"identifier\":{\"type\":\"dns\"," \
    "\"value\":\"WWW.example.org\"},\"challenges\":[{\"type\":\"new-kind\",\"url\":\"$U/c0\"}," \
    "{\"type\":\"http-01\",\"token\":\"" TOKEN "\",\"url\":\"$U/c1\",\"status\":" challenge "}," \
    "{\"type\":\"dns-01\",\"token\":\"../../etc\",\"url\":\"$U/c2\",\"status\":\"pending\"}," \
    "{\"type\":\"no-url\",\"token\":\"" TOKEN "\"}]}"

static void test_authorization(void **state)
{
    fixture_t *f = *state;
    acme_authorization_t *authz;
    const acme_authorization_challenge_t *challenge;

    /* A replica does not know it yet. */
    script_add(f->script, "POST /authz", 404, "", "");
    script_add(f->script, "POST /authz", 500, "", "");
    script_add(f->script, "POST /authz", 200, "", AUTHZ("pending", "\"pending\""));
    assert_int_equal(acme_authorization_read(&authz, f->account, url(f, "/authz"), f->pool,
                                             &f->err), APR_SUCCESS);
    assert_int_equal(script_seen(f->script, "POST /authz"), 3);
    assert_string_equal(authz->identifier, "www.example.org");
    assert_int_equal(authz->challenges->nelts, 3);
    challenge = acme_authorization_find_challenge(authz, "http-01");
    assert_non_null(challenge);
    assert_string_equal(challenge->token, TOKEN);
    assert_string_equal(challenge->url, url(f, "/c1"));
    assert_int_equal(challenge->problem.kind, BASE_ERROR_NONE);
    assert_null(acme_authorization_find_challenge(authz, "dns-01"));
    assert_null(acme_authorization_find_challenge(authz, "new-kind"));
}

#define PERSIST(type, members) "{\"type\":\"" type "\",\"url\":\"$U/c\"," members "}"
#define OFFER(challenges) "{\"status\":\"pending\",\"wildcard\":true,\"identifier\":{\"type\":\"dns\"," \
    "\"value\":\"example.org\"},\"challenges\":[" challenges "]}"

/* The issuers that an offer names, joined; NULL when it cannot be used. */
static const char *issuers_of(fixture_t *f, const char *body)
{
    const acme_authorization_challenge_t *challenge;
    acme_authorization_t *authz;

    script_drop(f->script, "POST /authz");
    script_add(f->script, "POST /authz", 200, "", body);
    assert_int_equal(acme_authorization_read(&authz, f->account, url(f, "/authz"), f->pool, &f->err),
                     APR_SUCCESS);
    assert_int_equal(authz->challenges->nelts, 1);
    challenge = acme_authorization_find_challenge(authz, "dns-persist-01");
    if (challenge == NULL) {
        return NULL;
    }
    assert_null(challenge->token);
    return apr_array_pstrcat(f->pool, challenge->issuers, ' ');
}

static void test_issuers(void **state)
{
    static const struct {
        const char *members, *issuers;
    } rows[] = {
        { "\"issuer-domain-names\":[\"ca.example\"]", "ca.example" },
        { "\"issuer-domain-names\":[\"CA.Example\",\"other.example\"]", "ca.example other.example" },
        { "\"issuer-domain-names\":[\"ca.example\",\"; x=y\",7,null,\"\",\"a\\nb.example\",\"*.x.example\","
          "\"\u00e9.example\",\"b.example\"]", "ca.example b.example" },
        { "\"issuer-domain-names\":[\"a.b\",\"a.c\",\"a.d\",\"a.e\",\"a.f\",\"a.g\",\"a.h\",\"a.i\",\"a.j\","
          "\"a.k\"]", "a.b a.c a.d a.e a.f a.g a.h a.i a.j a.k" },
        { "\"issuer-domain-names\":[\"a.b\",\"a.c\",\"a.d\",\"a.e\",\"a.f\",\"a.g\",\"a.h\",\"a.i\",\"a.j\","
          "\"a.k\",\"a.l\"]", NULL },
        { "\"issuer-domain-names\":[]", NULL }, { "\"issuer-domain-names\":[\"a b\"]", NULL },
        { "\"issuer-domain-names\":\"ca.example\"", NULL }, { "\"issuer-domain-names\":null", NULL },
        { "\"x\":1", NULL },
        /* It has no token: one alone is of no use. */
        { "\"token\":\"" TOKEN "\"", NULL },
        { "\"token\":\"" TOKEN "\",\"issuer-domain-names\":[\"ca.example\"]", "ca.example" },
    };
    fixture_t *f = *state;
    const char *long_name = "a.example";
    size_t i;

    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const char *body = apr_psprintf(f->pool, OFFER(PERSIST("dns-persist-01", "%s")), rows[i].members);
        const char *issuers = issuers_of(f, body);

        if (rows[i].issuers == NULL) {
            assert_null(issuers);
        }
        else {
            assert_non_null(issuers);
            assert_string_equal(issuers, rows[i].issuers);
        }
    }
    for (i = 0; i < 61; i++) {
        long_name = apr_pstrcat(f->pool, "aaa.", long_name, NULL);
    }
    assert_int_equal(strlen(long_name), 253);
    assert_string_equal(issuers_of(f, apr_psprintf(f->pool, OFFER(PERSIST("dns-persist-01", "%s\"%s\"]")),
                                                   "\"issuer-domain-names\":[", long_name)), long_name);
    assert_null(issuers_of(f, apr_psprintf(f->pool, OFFER(PERSIST("dns-persist-01", "%s\"a%s\"]")),
                                           "\"issuer-domain-names\":[", long_name)));
}

/* Issuers make up for no token where one is needed. The base name of a wildcard, an address. */
static void test_identifiers(void **state)
{
    fixture_t *f = *state;
    acme_authorization_t *authz;

    script_add(f->script, "POST /authz", 200, "",
               OFFER(PERSIST("dns-01", "\"issuer-domain-names\":[\"ca.example\"]")));
    script_add(f->script, "POST /authz", 200, "", "{\"status\":\"pending\",\"identifier\":{\"type\":\"ip\","
               "\"value\":\"2001:DB8:0:0:0:0:0:1\"},\"challenges\":[]}");
    assert_int_equal(acme_authorization_read(&authz, f->account, url(f, "/authz"), f->pool, &f->err),
                     APR_SUCCESS);
    assert_null(acme_authorization_find_challenge(authz, "dns-01"));
    assert_string_equal(authz->identifier, "example.org");
    assert_true(authz->wildcard);
    assert_int_equal(acme_authorization_read(&authz, f->account, url(f, "/authz"), f->pool, &f->err),
                     APR_SUCCESS);
    assert_true(base_identifier_is_same(authz->identifier, "2001:db8::1"));
    assert_false(authz->wildcard);
}

static void test_authorization_gone(void **state)
{
    fixture_t *f = *state;
    acme_authorization_t *authz;

    script_add(f->script, "POST /authz", 404, "", "");
    assert_int_not_equal(acme_authorization_read(&authz, f->account, url(f, "/authz"), f->pool,
                                                 &f->err), APR_SUCCESS);
    assert_int_equal(f->err.kind, BASE_ERROR_GONE);
    assert_int_equal(script_seen(f->script, "POST /authz"), 5);
}

static void test_accept(void **state)
{
    fixture_t *f = *state;

    script_add(f->script, "POST /c1", 200, "", "{\"status\":\"pending\"}");
    assert_int_equal(acme_authorization_accept(f->account, url(f, "/c1"), f->pool, &f->err),
                     APR_SUCCESS);
    assert_int_equal(script_seen(f->script, "POST /c1"), 1);
    assert_non_null(strstr(script_last(f->script, "POST /c1"), " {}"));
    /* The answer was lost, the request was not: it is not repeated. */
    script_add(f->script, "POST /c2", 500, "", "");
    script_add(f->script, "POST /c2", 200, "", "{\"status\":\"processing\"}");
    assert_int_equal(acme_authorization_accept(f->account, url(f, "/c2"), f->pool, &f->err),
                     APR_SUCCESS);
    assert_int_equal(script_seen(f->script, "POST /c2"), 2);
    assert_null(strstr(script_last(f->script, "POST /c2"), "{}"));
}

/* The request is cut off: what became of it is looked at. */
static void test_accept_reset(void **state)
{
    fixture_t *f = *state;

    script_add(f->script, "POST /c1", SCRIPT_LOST, "", "");
    script_add(f->script, "POST /c1", 200, "", "{\"status\":\"processing\"}");
    assert_int_equal(acme_authorization_accept(f->account, url(f, "/c1"), f->pool, &f->err),
                     APR_SUCCESS);
    assert_int_equal(script_seen(f->script, "POST /c1"), 2);
    assert_null(strstr(script_last(f->script, "POST /c1"), "{}"));
}

/* Authorizations may be valid, or dead, before anybody has done a thing. */
static void test_states_at_once(void **state)
{
    static const struct {
        const char *body;
        acme_object_status_t status;
    } rows[] = {
        { AUTHZ("valid", "\"valid\""), ACME_OBJECT_VALID },
        { AUTHZ("pending", "\"pending\""), ACME_OBJECT_PENDING },
        { AUTHZ("invalid", "\"invalid\""), ACME_OBJECT_INVALID },
        { AUTHZ("deactivated", "\"pending\""), ACME_OBJECT_INVALID },
        { AUTHZ("expired", "\"pending\""), ACME_OBJECT_INVALID },
        { AUTHZ("revoked", "\"pending\""), ACME_OBJECT_INVALID },
        { AUTHZ("half-baked", "7"), ACME_OBJECT_PENDING }
    };
    fixture_t *f = *state;
    acme_authorization_t *authz = NULL;
    size_t i;

    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        script_drop(f->script, "POST /authz");
        script_add(f->script, "POST /authz", 200, "Content-Type: text/html; charset=utf-8\r\n", rows[i].body);
        assert_int_equal(acme_authorization_read(&authz, f->account, url(f, "/authz"), f->pool, &f->err),
                         APR_SUCCESS);
        assert_int_equal(authz->status, rows[i].status);
    }
}

/* Retry-After that says nothing: the own steps go on. */
static void test_await_odd_retry_after(void **state)
{
    fixture_t *f = *state;

    script_add(f->script, "POST /authz", 200, "Retry-After: -86400\r\n",
               AUTHZ("processing", "\"processing\""));
    script_add(f->script, "POST /authz", 200, "Retry-After: later\r\n", AUTHZ("pending", "\"processing\""));
    script_add(f->script, "POST /authz", 200, "Retry-After: 0\r\n", AUTHZ("pending", "\"processing\""));
    script_add(f->script, "POST /authz", 200, "", AUTHZ("valid", "\"valid\""));
    assert_int_equal(acme_authorization_wait(f->account, url(f, "/authz"), "http-01", f->pool, &f->err),
                     APR_SUCCESS);
    assert_int_equal(script_seen(f->script, "POST /authz"), 4);
}

static apr_status_t await(fixture_t *f)
{
    base_error_clear(&f->err);
    return acme_authorization_wait(f->account, url(f, "/authz"), "http-01", f->pool,
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
        /* F30: left pending for ever, with an error */
        AUTHZ("pending", "\"pending\",\"error\":{\"type\":\"" PROBLEM
              "connection\",\"detail\":\"Timeout\"}"),
        AUTHZ("deactivated", "\"pending\"")
    };
    fixture_t *f = *state;
    size_t i;

    for (i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
        script_drop(f->script, "POST /authz");
        script_add(f->script, "POST /authz", 200, "", bodies[i]);
        assert_int_not_equal(await(f), APR_SUCCESS);
        assert_int_equal(f->err.kind, BASE_ERROR_VALIDATION);
        assert_string_equal(f->err.type, i < 3 ? "connection" : "");
    }
}

static void *move_clock(void *data)
{
    (void)data;
    usleep(250000);
    clock_offset = ACME_AUTHORIZATION_DEADLINE + apr_time_from_sec(1);
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
    acme_authorization_deactivate(f->account, url(f, "/authz"), f->pool);
    assert_non_null(strstr(script_last(f->script, "POST /authz"), "{\"status\":\"deactivated\"}"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SERVER(test_authorization),
        WITH_SERVER(test_issuers),
        WITH_SERVER(test_identifiers),
        WITH_SERVER(test_authorization_gone),
        WITH_SERVER(test_accept),
        WITH_SERVER(test_accept_reset),
        WITH_SERVER(test_states_at_once),
        WITH_SERVER(test_await_odd_retry_after),
        WITH_SERVER(test_await),
        WITH_SERVER(test_await_retry_after),
        WITH_SERVER(test_await_invalid),
        WITH_SERVER(test_await_deadline),
        WITH_SERVER(test_await_limit),
        WITH_SERVER(test_await_stop),
        WITH_SERVER(test_deactivate),
    };

    return SERVER_RUN_TESTS(tests);
}
