/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "acme/order.h"
#include "crypto/cert.h"
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

static apr_status_t place(fixture_t *f, const char *replaces)
{
    acme_order_request_t wanted = { "www.example.org", replaces };

    return acme_order_create(&f->order, f->account, &wanted, f->pool, &f->err);
}

static apr_status_t create(fixture_t *f, const char *headers, const char *body)
{
    script_drop(f->script, "POST /new");
    script_add(f->script, "POST /new", 201, headers, body);
    return place(f, NULL);
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

#define IDENTIFIERS "{\"identifiers\":[{\"type\":\"dns\",\"value\":\"www.example.org\"}]"

/* A CA with renewal information and profiles, as a new process sees it. */
static void start_modern(fixture_t *f)
{
    script_drop(f->script, "GET /dir");
    script_add(f->script, "GET /dir", 200, "",
               "{\"newNonce\":\"$U/nonce\",\"newAccount\":\"$U/account\",\"newOrder\":\"$U/new\","
               "\"renewalInfo\":\"$U/ari\",\"meta\":{\"profiles\":{\"classic\":\"c\",\"short\":\"s\"}}}");
    script_restart(f);
    script_drop(f->script, "POST /new");
}

static void refuse_once(fixture_t *f, int status, const char *type)
{
    script_add(f->script, "POST /new", status, "",
               apr_psprintf(f->pool, "{\"type\":\"" PROBLEM "%s\",\"detail\":\"no\"}", type));
}

static void take_order(fixture_t *f)
{
    script_add(f->script, "POST /new", 201, "Location: /order\r\n", ORDER("pending", ""));
}

/* The payload of the last order. */
static const char *last_order(fixture_t *f)
{
    return strchr(script_last(f->script, "POST /new"), '{');
}

static void test_profile(void **state)
{
    fixture_t *f = *state;

    f->config->profile = "short";
    start_modern(f);
    take_order(f);
    assert_int_equal(place(f, NULL), APR_SUCCESS);
    assert_string_equal(last_order(f), IDENTIFIERS ",\"profile\":\"short\"}");
    /* The CA has second thoughts. */
    script_drop(f->script, "POST /new");
    refuse_once(f, 400, "invalidProfile");
    take_order(f);
    assert_int_equal(place(f, NULL), APR_SUCCESS);
    assert_string_equal(last_order(f), IDENTIFIERS "}");
    script_drop(f->script, "POST /new");
    refuse_once(f, 403, "unauthorized");
    take_order(f);
    assert_int_equal(place(f, NULL), APR_SUCCESS);
    assert_string_equal(last_order(f), IDENTIFIERS "}");
    /* What has nothing to do with it stays a failure, and is not sent twice. */
    script_drop(f->script, "POST /new");
    refuse_once(f, 400, "rejectedIdentifier");
    take_order(f);
    assert_int_not_equal(place(f, NULL), APR_SUCCESS);
    assert_string_equal(f->err.type, "rejectedIdentifier");
    assert_int_equal(script_seen(f->script, "POST /new"), 6);
    /* Without the profile unauthorized is the end. */
    script_drop(f->script, "POST /new");
    refuse_once(f, 403, "unauthorized");
    assert_int_not_equal(place(f, NULL), APR_SUCCESS);
    assert_int_equal(f->err.kind, BASE_ERROR_OPERATOR);
    assert_int_equal(script_seen(f->script, "POST /new"), 8);
}

static void test_profile_unknown(void **state)
{
    fixture_t *f = *state;

    f->config->profile = "shor";
    start_modern(f);
    take_order(f);
    assert_int_equal(place(f, NULL), APR_SUCCESS);
    assert_string_equal(last_order(f), IDENTIFIERS "}");
    assert_int_equal(script_seen(f->script, "POST /new"), 1);
}

static void test_replaces(void **state)
{
    fixture_t *f = *state;
    static const struct {
        int status;
        const char *type;
        int again;              /* the order goes again without */
    } rows[] = {
        { 409, "alreadyReplaced", 1 }, { 409, "conflict", 1 }, { 500, "serverInternal", 1 },
        { 403, "unauthorized", 1 }, { 404, "malformed", 1 }, { 400, "malformed", 1 },
        { 400, "rejectedIdentifier", 1 }, { 429, "rateLimited", 0 }, { 403, "userActionRequired", 0 },
        { 502, "serverInternal", 0 }, { 503, "serverInternal", 0 }
    };
    size_t i;
    int seen = 1;

    /* Not without renewal information in the directory, nor when that is not wanted. */
    script_add(f->script, "POST /new", 201, "Location: /order\r\n", ORDER("pending", ""));
    assert_int_equal(place(f, "aki.serial"), APR_SUCCESS);
    assert_string_equal(last_order(f), IDENTIFIERS "}");
    start_modern(f);
    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        script_drop(f->script, "POST /new");
        refuse_once(f, rows[i].status, rows[i].type);
        take_order(f);
        assert_int_equal(place(f, "aki.serial") == APR_SUCCESS, rows[i].again);
        seen += 1 + rows[i].again;
        assert_int_equal(script_seen(f->script, "POST /new"), seen);
        assert_string_equal(last_order(f), rows[i].again ? IDENTIFIERS "}"
                                                         : IDENTIFIERS ",\"replaces\":\"aki.serial\"}");
    }
    /* Once: what is still refused then is refused for another reason. */
    script_drop(f->script, "POST /new");
    refuse_once(f, 409, "alreadyReplaced");
    refuse_once(f, 400, "rejectedIdentifier");
    assert_int_not_equal(place(f, "aki.serial"), APR_SUCCESS);
    assert_string_equal(f->err.type, "rejectedIdentifier");
    assert_int_equal(script_seen(f->script, "POST /new"), seen + 2);
    f->config->no_renewal_info = 1;
    assert_int_not_equal(place(f, "aki.serial"), APR_SUCCESS);
    assert_string_equal(last_order(f), IDENTIFIERS "}");
}

static void test_replaces_lost_account(void **state)
{
    fixture_t *f = *state;

    start_modern(f);
    refuse_once(f, 400, "accountDoesNotExist");
    take_order(f);
    assert_int_not_equal(place(f, "aki.serial"), APR_SUCCESS);
    assert_int_equal(f->err.kind, BASE_ERROR_GONE);
    assert_int_equal(script_seen(f->script, "POST /new"), 1);
}

static void test_replaces_and_profile(void **state)
{
    fixture_t *f = *state;

    f->config->profile = "short";
    start_modern(f);
    refuse_once(f, 400, "invalidProfile");
    take_order(f);
    assert_int_equal(place(f, "aki.serial"), APR_SUCCESS);
    assert_string_equal(last_order(f), IDENTIFIERS ",\"replaces\":\"aki.serial\"}");
    script_drop(f->script, "POST /new");
    refuse_once(f, 403, "unauthorized");
    refuse_once(f, 403, "unauthorized");
    take_order(f);
    assert_int_equal(place(f, "aki.serial"), APR_SUCCESS);
    assert_string_equal(last_order(f), IDENTIFIERS "}");
}

/* ---- orders found again ---- */

#define OTHER_ORDER(status, names) "{\"status\":\"" status "\",\"expires\":\"2027-01-15T08:00:00Z\"," \
    "\"identifiers\":[" names "],\"authorizations\":[\"$U/authz\"],\"finalize\":\"$U/finalize\"}"
#define DNS(name) "{\"type\":\"dns\",\"value\":\"" name "\"}"

static apr_status_t look_for(fixture_t *f, const char *name)
{
    f->order = NULL;
    base_error_clear(&f->err);
    return acme_order_find(&f->order, f->account, name, apr_time_from_sec(1799990000), f->pool, &f->err);
}

static void test_find(void **state)
{
    fixture_t *f = *state;

    script_add(f->script, "POST /acct/1", 200, "", "{\"status\":\"valid\",\"orders\":\"/orders\"}");
    script_add(f->script, "POST /orders", 200, "Link: </orders?2>;rel=\"next\"\r\n",
               "{\"orders\":[\"$U/o1\",\"$U/o2\",7]}");
    script_add(f->script, "POST /orders?2", 200, "",
               "{\"orders\":[\"/o3\",\"/o4\",\"http://x.example/\",\"/o5\",\"/o6\",\"/o7\"]}");
    script_add(f->script, "POST /o1", 200, "", OTHER_ORDER("pending", DNS("old.example.org")));
    script_add(f->script, "POST /o2", 200, "", OTHER_ORDER("pending", DNS("www.example.org")));
    script_add(f->script, "POST /o3", 200, "", OTHER_ORDER("ready", DNS("WWW.example.org")));
    script_add(f->script, "POST /o4", 200, "", OTHER_ORDER("valid", DNS("www.example.org")));
    script_add(f->script, "POST /o5", 200, "", OTHER_ORDER("pending", DNS("www.example.org") ","
                                                            DNS("example.org")));
    script_add(f->script, "POST /o6", 404, "", "");
    script_add(f->script, "POST /o7", 200, "", "{}");
    assert_int_equal(look_for(f, "www.example.org"), APR_SUCCESS);
    assert_string_equal(f->order->url, url(f, "/o3"));
    assert_int_equal(f->order->status, ACME_ORDER_READY);
    assert_int_equal(script_seen(f->script, "POST /o2"), 0);
    assert_int_equal(look_for(f, "old.example.org"), APR_SUCCESS);
    assert_string_equal(f->order->url, url(f, "/o1"));
    assert_int_equal(look_for(f, "none.example.org"), APR_NOTFOUND);
    assert_int_equal(f->err.kind, BASE_ERROR_NONE);
    /* Long expired when the lost one was placed. */
    assert_int_equal(acme_order_find(&f->order, f->account, "www.example.org",
                                     apr_time_from_sec(1800000000), f->pool, &f->err), APR_NOTFOUND);
    assert_int_equal(script_seen(f->script, "POST /account"), 1);
}

static void test_find_no_list(void **state)
{
    static const struct {
        int status;
        const char *body;
    } lists[] = {
        { 404, "" }, { 403, "{\"type\":\"" PROBLEM "unauthorized\"}" }, { 200, "{}" }, { 200, "x" },
        { 200, "{\"orders\":7}" }, { 200, "[]" }
    };
    fixture_t *f = *state;
    size_t i;

    script_add(f->script, "POST /acct/1", 405, "", "{\"type\":\"" PROBLEM "malformed\"}");
    script_add(f->script, "POST /acct/1", 200, "", "{\"status\":\"valid\"}");
    script_add(f->script, "POST /acct/1", 200, "", "{\"status\":\"valid\",\"orders\":\"/orders\"}");
    assert_int_equal(look_for(f, "www.example.org"), APR_NOTFOUND);
    assert_int_equal(look_for(f, "www.example.org"), APR_NOTFOUND);
    for (i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        script_drop(f->script, "POST /orders");
        script_add(f->script, "POST /orders", lists[i].status, "", lists[i].body);
        assert_int_equal(look_for(f, "www.example.org"), APR_NOTFOUND);
        assert_int_equal(f->err.kind, BASE_ERROR_NONE);
    }
    /* A bare array: smallstep's. */
    script_drop(f->script, "POST /orders");
    script_add(f->script, "POST /orders", 200, "", "[\"/o1\"]");
    script_add(f->script, "POST /o1", 200, "", OTHER_ORDER("pending", DNS("www.example.org")));
    assert_int_equal(look_for(f, "www.example.org"), APR_SUCCESS);
    /* No answer is not the same as no order. */
    script_drop(f->script, "POST /o1");
    script_add(f->script, "POST /o1", 503, "", "<html>");
    assert_int_not_equal(look_for(f, "www.example.org"), APR_SUCCESS);
    assert_int_equal(f->err.kind, BASE_ERROR_CA_DOWN);
    script_drop(f->script, "POST /orders");
    script_add(f->script, "POST /orders", SCRIPT_LOST, "", "");
    assert_int_not_equal(look_for(f, "www.example.org"), APR_NOTFOUND);
    assert_int_equal(f->err.kind, BASE_ERROR_CA_DOWN);
}

static void test_find_bounded(void **state)
{
    fixture_t *f = *state;
    const char *list = "{\"orders\":[";
    int i;

    for (i = 0; i < 30; i++) {
        list = apr_psprintf(f->pool, "%s%s\"/o%d\"", list, i > 0 ? "," : "", i % 2);
    }
    list = apr_pstrcat(f->pool, list, "]}", NULL);
    script_add(f->script, "POST /acct/1", 200, "", "{\"status\":\"valid\",\"orders\":\"/orders\"}");
    /* The list has no end, and each order is another's. */
    script_add(f->script, "POST /orders", 200, "Link: </orders>;rel=next\r\n", list);
    script_add(f->script, "POST /o0", 200, "", OTHER_ORDER("pending", DNS("a.example.org")));
    script_add(f->script, "POST /o1", 200, "", OTHER_ORDER("pending", DNS("b.example.org")));
    assert_int_equal(look_for(f, "www.example.org"), APR_NOTFOUND);
    assert_int_equal(script_seen(f->script, "POST /orders"), ACME_ORDER_PAGES_MAX);
    assert_int_equal(script_seen(f->script, "POST /o0") + script_seen(f->script, "POST /o1"),
                     ACME_ORDER_FOUND_MAX);
}

/* ---- chains ---- */

/* A chain of one certificate issued by this CN. */
static const char *bake(fixture_t *f, const char *issuer)
{
    crypto_cert_params_t params = { .cn = "www.example.org", .not_after = apr_time_from_sec(86400) };
    BIO *bio = BIO_new(BIO_s_mem());
    X509_NAME *name = X509_NAME_new();
    EVP_PKEY *key = NULL;
    const char *text;
    char *data;
    X509 *cert;
    long len;

    assert_int_equal(crypto_key_generate(&key, CRYPTO_KEY_P256, NULL), APR_SUCCESS);
    params.key = key;
    cert = crypto_cert_new(&params);
    assert_true(crypto_cert_set_cn(name, issuer) && X509_set_issuer_name(cert, name));
    assert_true(X509_sign(cert, key, EVP_sha256()) > 0);
    PEM_write_bio_X509(bio, cert);
    len = BIO_get_mem_data(bio, &data);
    text = apr_pstrmemdup(f->pool, data, (apr_size_t)len);
    X509_NAME_free(name);
    X509_free(cert);
    EVP_PKEY_free(key);
    BIO_free(bio);
    return text;
}

static const char *certificate(fixture_t *f)
{
    char *pem = NULL;
    apr_size_t len;

    assert_int_equal(acme_order_certificate(&pem, &len, f->order, f->account, f->pool, &f->err),
                     APR_SUCCESS);
    assert_int_equal(f->err.kind, BASE_ERROR_NONE);
    assert_int_equal(strlen(pem), len);
    return pem;
}

static void test_chain(void **state)
{
    fixture_t *f = *state;
    const char *main_chain = bake(f, "Main Root"), *old = bake(f, "Old Root"), *third = bake(f, "Third");

    assert_int_equal(create(f, "Location: /order\r\n", VALID_ORDER), APR_SUCCESS);
    script_add(f->script, "POST /cert", 200, "Link: </cert/1>;rel=\"alternate\"\r\n"
               "Link: <$U/cert/2>;rel=\"alternate\", </cert/3>;rel=\"alternate\"\r\n", main_chain);
    script_add(f->script, "POST /cert/1", 403, "", "{}");
    script_add(f->script, "POST /cert/2", 200, "", third);
    script_add(f->script, "POST /cert/3", 200, "", old);
    assert_string_equal(certificate(f), main_chain);
    f->config->chain = "Main Root";
    assert_string_equal(certificate(f), main_chain);
    assert_int_equal(script_seen(f->script, "POST /cert/"), 0);
    f->config->chain = "old root";
    assert_string_equal(certificate(f), old);
    assert_int_equal(script_seen(f->script, "POST /cert/"), 3);
    f->config->chain = "No Such Root";
    assert_string_equal(certificate(f), main_chain);
}

static void test_chain_bounded(void **state)
{
    fixture_t *f = *state;
    const char *main_chain = bake(f, "Main Root"), *links = "";
    int i;

    assert_int_equal(create(f, "Location: /order\r\n", VALID_ORDER), APR_SUCCESS);
    for (i = 0; i < 20; i++) {
        links = apr_pstrcat(f->pool, links, "Link: </cert/1>;rel=\"alternate\"\r\n", NULL);
    }
    script_add(f->script, "POST /cert", 200, links, main_chain);
    script_add(f->script, "POST /cert/1", 200, "", "junk");
    f->config->chain = "No Such Root";
    assert_string_equal(certificate(f), main_chain);
    assert_int_equal(script_seen(f->script, "POST /cert/1"), ACME_ORDER_ALTERNATES_MAX);
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

/* The request is cut off: what became of it is looked at. */
static void test_accept_reset(void **state)
{
    fixture_t *f = *state;

    script_add(f->script, "POST /c1", SCRIPT_LOST, "", "");
    script_add(f->script, "POST /c1", 200, "", "{\"status\":\"processing\"}");
    assert_int_equal(acme_order_challenge_accept(f->account, url(f, "/c1"), f->pool, &f->err),
                     APR_SUCCESS);
    assert_int_equal(script_seen(f->script, "POST /c1"), 2);
    assert_null(strstr(script_last(f->script, "POST /c1"), "{}"));
}

/* Authorizations and orders may be ready, or dead, before anybody has done a thing. */
static void test_states_at_once(void **state)
{
    static const struct {
        const char *body;
        acme_order_status_t status;
    } rows[] = {
        { AUTHZ("valid", "\"valid\""), ACME_ORDER_VALID },
        { AUTHZ("pending", "\"pending\""), ACME_ORDER_PENDING },
        { AUTHZ("invalid", "\"invalid\""), ACME_ORDER_INVALID },
        { AUTHZ("deactivated", "\"pending\""), ACME_ORDER_INVALID },
        { AUTHZ("expired", "\"pending\""), ACME_ORDER_INVALID },
        { AUTHZ("revoked", "\"pending\""), ACME_ORDER_INVALID },
        { AUTHZ("half-baked", "7"), ACME_ORDER_PENDING }
    };
    fixture_t *f = *state;
    acme_order_authorization_t *authz = NULL;
    size_t i;

    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        script_drop(f->script, "POST /authz");
        script_add(f->script, "POST /authz", 200, "Content-Type: text/html; charset=utf-8\r\n", rows[i].body);
        assert_int_equal(acme_order_authorization(&authz, f->account, url(f, "/authz"), f->pool, &f->err),
                         APR_SUCCESS);
        assert_int_equal(authz->status, rows[i].status);
    }
    start_ready(f);
    assert_int_equal(f->order->status, ACME_ORDER_READY);
    assert_int_equal(acme_order_wait_ready(&f->order, f->account, f->pool, &f->err), APR_SUCCESS);
    assert_int_equal(script_seen(f->script, "POST /order"), 0);
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
    assert_int_equal(acme_order_authorization_wait(f->account, url(f, "/authz"), "http-01", f->pool, &f->err),
                     APR_SUCCESS);
    assert_int_equal(script_seen(f->script, "POST /authz"), 4);
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

/* The connection is cut after the request; on one that was in use before, libcurl asks a second time. */
static void test_finalize_reset(void **state)
{
    fixture_t *f = *state;
    int sent;

    start_ready(f);
    script_add(f->script, "POST /finalize", SCRIPT_LOST, "", "");
    script_add(f->script, "POST /order", 200, "", ORDER("processing", ""));
    script_add(f->script, "POST /order", 200, "", VALID_ORDER);
    assert_int_equal(finalize(f), APR_SUCCESS);
    sent = script_seen(f->script, "POST /finalize");
    assert_true(sent == 1 || sent == 2);
    /* It did not arrive: the order is ready still, and the request is sent again. */
    f->order->status = ACME_ORDER_READY;
    script_drop(f->script, "POST /finalize");
    script_drop(f->script, "POST /order");
    script_add(f->script, "POST /finalize", 500, "", "");
    script_add(f->script, "POST /finalize", 200, "", VALID_ORDER);
    script_add(f->script, "POST /order", 200, "", ORDER("ready", ""));
    assert_int_equal(finalize(f), APR_SUCCESS);
    assert_int_equal(script_seen(f->script, "POST /finalize"), sent + 2);
}

/* Never ready for the CA, whatever the order says: bounded. */
static void test_finalize_never_ready(void **state)
{
    fixture_t *f = *state;

    start_ready(f);
    script_add(f->script, "POST /finalize", 403, "", "{\"type\":\"" PROBLEM "orderNotReady\"}");
    script_add(f->script, "POST /order", 200, "Retry-After: -5\r\n", ORDER("ready", ""));
    script_add(f->script, "POST /order", 200, "Retry-After: soon\r\n", ORDER("ready", ""));
    assert_int_not_equal(finalize(f), APR_SUCCESS);
    assert_int_equal(f->err.kind, BASE_ERROR_CA_DOWN);
    assert_int_equal(script_seen(f->script, "POST /finalize"), 4);
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
        WITH_SERVER(test_profile),
        WITH_SERVER(test_profile_unknown),
        WITH_SERVER(test_replaces),
        WITH_SERVER(test_replaces_lost_account),
        WITH_SERVER(test_replaces_and_profile),
        WITH_SERVER(test_find),
        WITH_SERVER(test_find_no_list),
        WITH_SERVER(test_find_bounded),
        WITH_SERVER(test_chain),
        WITH_SERVER(test_chain_bounded),
        WITH_SERVER(test_fetch),
        WITH_SERVER(test_authorization),
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
        WITH_SERVER(test_wait_ready),
        WITH_SERVER(test_finalize),
        WITH_SERVER(test_finalize_at_once),
        WITH_SERVER(test_finalize_not_ready),
        WITH_SERVER(test_finalize_lost),
        WITH_SERVER(test_finalize_reset),
        WITH_SERVER(test_finalize_never_ready),
        WITH_SERVER(test_finalize_failed),
        WITH_SERVER(test_finalize_resumed),
    };

    return SERVER_RUN_TESTS(tests);
}
