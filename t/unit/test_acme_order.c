/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "acme/order.h"
#include "base/log.h"
#include "crypto/cert.h"
#include "test_acme_order.h"

#define ORDER(status, more) "{\"status\":\"" status "\",\"expires\":\"2027-01-15T08:00:00Z\"," \
    "\"identifiers\":[{\"type\":\"dns\",\"value\":\"www.example.org\"}]," \
    "\"authorizations\":[\"$U/authz\"],\"finalize\":\"$U/finalize\"" more "}"
#define VALID_ORDER ORDER("valid", ",\"certificate\":\"/cert\"")

static apr_status_t place_for(fixture_t *f, const char *name, const char *replaces)
{
    acme_order_request_t wanted = { name, replaces };

    return acme_order_create(&f->order, f->account, &wanted, f->pool, &f->err);
}

static apr_status_t place(fixture_t *f, const char *replaces)
{
    return place_for(f, "www.example.org", replaces);
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
    assert_int_equal(f->order->status, ACME_OBJECT_PENDING);
    assert_int_equal(f->order->expires, apr_time_from_sec(1800000000));
    assert_int_equal(f->order->authorizations->nelts, 1);
    assert_int_equal(f->order->problem.kind, BASE_ERROR_NONE);
    assert_null(f->order->certificate);
    assert_non_null(strstr(script_last(f->script, "POST /new"), "{\"identifiers\":[{\"type\":"
                           "\"dns\",\"value\":\"www.example.org\"}]}"));
}

#define IDENTIFIERS "{\"identifiers\":[{\"type\":\"dns\",\"value\":\"www.example.org\"}]"

static void start_with_profiles(fixture_t *f, const char *profiles)
{
    script_drop(f->script, "GET /dir");
    script_add(f->script, "GET /dir", 200, "", apr_psprintf(f->pool,
               "{\"newNonce\":\"$U/nonce\",\"newAccount\":\"$U/account\",\"newOrder\":\"$U/new\","
               "\"renewalInfo\":\"$U/ari\",\"meta\":{\"profiles\":{%s}}}", profiles));
    script_restart(f);
    script_drop(f->script, "POST /new");
}

/* A CA with renewal information and profiles, as a new process sees it. */
static void start_modern(fixture_t *f)
{
    start_with_profiles(f, "\"classic\":\"c\",\"short\":\"s\"");
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

static char line[BASE_LOG_LINE_MAX];

/* The last warning. */
static void keep_line(void *baton, int level, const char *text)
{
    if (level <= BASE_LOG_WARNING) {
        apr_cpystrn(baton, text, BASE_LOG_LINE_MAX);
    }
}

#define ADDRESS "{\"identifiers\":[{\"type\":\"ip\",\"value\":\"2001:db8::1\"}]"

static void test_identifiers(void **state)
{
    fixture_t *f = *state;

    take_order(f);
    assert_int_equal(place_for(f, "*.example.org", NULL), APR_SUCCESS);
    assert_string_equal(last_order(f), "{\"identifiers\":[{\"type\":\"dns\",\"value\":\"*.example.org\"}]}");
    assert_int_equal(place_for(f, "192.0.2.1", NULL), APR_SUCCESS);
    assert_string_equal(last_order(f), "{\"identifiers\":[{\"type\":\"ip\",\"value\":\"192.0.2.1\"}]}");
    assert_int_equal(place_for(f, "2001:db8::1", NULL), APR_SUCCESS);
    assert_string_equal(last_order(f), ADDRESS "}");
}

/* What an order for an address must have at Let's Encrypt comes before what is configured. */
static void test_profile_of_address(void **state)
{
    fixture_t *f = *state;

    f->config->profile = "short";
    start_with_profiles(f, "\"short\":\"s\",\"shortlived\":\"l\"");
    take_order(f);
    assert_int_equal(place_for(f, "2001:db8::1", "aki.serial"), APR_SUCCESS);
    assert_string_equal(last_order(f), ADDRESS ",\"profile\":\"shortlived\",\"replaces\":\"aki.serial\"}");
    assert_int_equal(place_for(f, "www.example.org", NULL), APR_SUCCESS);
    assert_string_equal(last_order(f), IDENTIFIERS ",\"profile\":\"short\"}");
    f->config->profile = NULL;
    assert_int_equal(place_for(f, "2001:db8::1", NULL), APR_SUCCESS);
    assert_string_equal(last_order(f), ADDRESS ",\"profile\":\"shortlived\"}");
    assert_int_equal(place_for(f, "www.example.org", NULL), APR_SUCCESS);
    assert_string_equal(last_order(f), IDENTIFIERS "}");
    /* The CA will not have it. */
    script_drop(f->script, "POST /new");
    refuse_once(f, 400, "invalidProfile");
    take_order(f);
    base_log_set(keep_line, line);
    assert_int_equal(place_for(f, "2001:db8::1", NULL), APR_SUCCESS);
    base_log_set(NULL, NULL);
    assert_string_equal(last_order(f), ADDRESS "}");
    assert_non_null(strstr(line, "without the profile shortlived: "));
    /* A CA without it: the configured one. */
    f->config->profile = "short";
    start_modern(f);
    take_order(f);
    assert_int_equal(place_for(f, "2001:db8::1", NULL), APR_SUCCESS);
    assert_string_equal(last_order(f), ADDRESS ",\"profile\":\"short\"}");
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
    assert_int_equal(f->order->status, ACME_OBJECT_INVALID);
    assert_string_equal(f->order->problem.type, "caa");
    script_add(f->script, "POST /old", 404, "", "");
    assert_int_not_equal(acme_order_fetch(&f->order, f->account, url(f, "/old"), f->pool,
                                          &f->err), APR_SUCCESS);
    assert_int_equal(f->err.kind, BASE_ERROR_GONE);
    assert_int_equal(script_seen(f->script, "POST /old"), 1);
}

/* An order may be ready before anybody has done a thing. */
static void test_ready_at_once(void **state)
{
    fixture_t *f = *state;

    start_ready(f);
    assert_int_equal(f->order->status, ACME_OBJECT_READY);
    assert_int_equal(acme_order_wait_ready(&f->order, f->account, f->pool, &f->err), APR_SUCCESS);
    assert_int_equal(script_seen(f->script, "POST /order"), 0);
}

static void test_wait_ready(void **state)
{
    fixture_t *f = *state;

    assert_int_equal(create(f, "Location: /order\r\n", ORDER("pending", "")), APR_SUCCESS);
    script_add(f->script, "POST /order", 200, "", ORDER("pending", ""));
    script_add(f->script, "POST /order", 200, "", ORDER("ready", ""));
    script_add(f->script, "POST /order", 200, "", ORDER("invalid", ""));
    assert_int_equal(acme_order_wait_ready(&f->order, f->account, f->pool, &f->err), APR_SUCCESS);
    assert_int_equal(f->order->status, ACME_OBJECT_READY);
    f->order->status = ACME_OBJECT_PENDING;
    assert_int_not_equal(acme_order_wait_ready(&f->order, f->account, f->pool, &f->err),
                         APR_SUCCESS);
    assert_int_equal(f->err.kind, BASE_ERROR_VALIDATION);
    assert_int_equal(f->order->status, ACME_OBJECT_INVALID);
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
    f->order->status = ACME_OBJECT_READY;
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SERVER(test_create),
        WITH_SERVER(test_create_bad),
        WITH_SERVER(test_profile),
        WITH_SERVER(test_profile_unknown),
        WITH_SERVER(test_identifiers),
        WITH_SERVER(test_profile_of_address),
        WITH_SERVER(test_replaces),
        WITH_SERVER(test_replaces_lost_account),
        WITH_SERVER(test_replaces_and_profile),
        WITH_SERVER(test_chain),
        WITH_SERVER(test_chain_bounded),
        WITH_SERVER(test_fetch),
        WITH_SERVER(test_ready_at_once),
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
