/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <apr_general.h>
#include <apr_strings.h>
#include <cmocka.h>
#include <openssl/ssl.h>

#include "challenge/tlsalpn01.h"
#include "crypto/challenge_cert.h"
#include "crypto/placeholder.h"
#include "run.h"
#include "scratch_cache.h"

#define KEYAUTH "token.9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI"
#define RECORD_HEADER 5
#define OURS "\x0a" "acme-tls/1"
#define LIST(literal) literal, sizeof(literal) - 1

static challenge_task_t task_of(const char *name)
{
    return (challenge_task_t){
        .cache = cache, .name = name, .token = "token", .key_authorization = KEYAUTH, .now = apr_time_now()
    };
}

/* A real ClientHello message, without the record header, with this ALPN list. */
static unsigned char *make_hello(const char *protocols, unsigned int protocols_len, size_t *len)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL *ssl = SSL_new(ctx);
    BIO *out = BIO_new(BIO_s_mem());
    unsigned char *copy;
    char *data = NULL;
    long size;

    if (protocols) {
        assert_int_equal(SSL_set_alpn_protos(ssl, (const unsigned char *)protocols,
                                             protocols_len), 0);
    }
    SSL_set_tlsext_host_name(ssl, "a.example");
    SSL_set_bio(ssl, BIO_new(BIO_s_mem()), out);
    assert_int_equal(SSL_connect(ssl), -1);
    size = BIO_get_mem_data(out, &data);
    assert_true(size > RECORD_HEADER);
    /* exact memory, so that a read behind the end is noticed */
    *len = (size_t)size - RECORD_HEADER;
    copy = malloc(*len);
    memcpy(copy, data + RECORD_HEADER, *len);
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    return copy;
}

static void test_real_hellos(void **state)
{
    static const struct {
        const char *list;
        unsigned int len;
        int asked;
    } cases[] = {
        { LIST(OURS), 1 },
        { NULL, 0, 0 },
        { LIST("\x02" "h2"), 0 },
        { LIST(OURS "\x02" "h2"), 0 },
        { LIST("\x02" "h2" OURS), 0 },
        { LIST(OURS OURS), 0 },
        { LIST("\x0a" "acme-tls/2"), 0 },
        { LIST("\x0a" "ACME-TLS/1"), 0 },
        { LIST("\x09" "acme-tls/"), 0 },
        { LIST("\x0b" "acme-tls/1x"), 0 }
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        size_t len = 0;
        unsigned char *hello = make_hello(cases[i].list, cases[i].len, &len);

        assert_int_equal(challenge_tlsalpn01_is_asked(hello, len), cases[i].asked);
        free(hello);
    }
}

static void test_truncated_at_every_byte(void **state)
{
    size_t len = 0;
    unsigned char *hello = make_hello(LIST(OURS), &len);

    (void)state;
    for (size_t cut = 0; cut < len; cut++) {
        unsigned char *part = malloc(cut ? cut : 1);

        memcpy(part, hello, cut);
        assert_false(challenge_tlsalpn01_is_asked(part, cut));
        if (cut >= 4) {
            /* with a header that agrees with the shorter body */
            part[1] = (unsigned char)((cut - 4) >> 16);
            part[2] = (unsigned char)((cut - 4) >> 8);
            part[3] = (unsigned char)(cut - 4);
            assert_false(challenge_tlsalpn01_is_asked(part, cut));
        }
        free(part);
    }
    free(hello);
}

static void test_longer_than_it_says(void **state)
{
    size_t len = 0;
    unsigned char *hello = make_hello(LIST(OURS), &len);
    unsigned char *longer = malloc(len + 1);

    (void)state;
    memcpy(longer, hello, len);
    longer[len] = 0;
    assert_false(challenge_tlsalpn01_is_asked(longer, len + 1));
    assert_true(challenge_tlsalpn01_is_asked(longer, len));
    longer[0] = 2;
    assert_false(challenge_tlsalpn01_is_asked(longer, len));
    free(longer);
    free(hello);
}

/* A hello made by hand: nothing but these extensions. */
static int asked_with(const char *extensions, size_t len)
{
    unsigned char hello[256] = { 1 };
    size_t at = 4 + 34;

    hello[at++] = 0;                    /* no session id */
    memcpy(hello + at, "\x00\x02\x13\x01\x01\x00", 6);
    at += 6;
    hello[at++] = (unsigned char)(len >> 8);
    hello[at++] = (unsigned char)len;
    memcpy(hello + at, extensions, len);
    at += len;
    hello[3] = (unsigned char)(at - 4);
    return challenge_tlsalpn01_is_asked(hello, at);
}

#define ALPN "\x00\x10\x00\x0d\x00\x0b" OURS

static void test_extensions_by_hand(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
        int asked;
    } cases[] = {
        { LIST(ALPN), 1 },
        { LIST("\x00\x17\x00\x00" ALPN "\x00\x23\x00\x00"), 1 },
        { LIST(""), 0 },
        { LIST(ALPN ALPN), 0 },                                 /* twice */
        { LIST(ALPN "\x00\x23\x00\x01"), 0 },                   /* broken behind it */
        { LIST(ALPN "\x00"), 0 },
        { LIST("\x00\x11\x00\x0d\x00\x0b" OURS), 0 },           /* another type */
        { LIST("\x00\x10\x00\x0e\x00\x0b" OURS "x"), 0 },       /* bytes behind the list */
        { LIST("\x00\x10\x00\x0d\x00\x0c" OURS), 0 },           /* list longer than there is */
        { LIST("\x00\x10\x00\x0e\x00\x0c" OURS "\x00"), 0 },    /* an empty protocol */
        { LIST("\x00\x10\x00\x02\x00\x00"), 0 },                /* an empty list */
        { LIST("\x00\x10\x00\x00"), 0 }
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(asked_with(cases[i].bytes, cases[i].len), cases[i].asked);
    }
    assert_false(challenge_tlsalpn01_is_asked((const unsigned char *)"", 0));
}

static void test_publish_answer_withdraw(void **state)
{
    challenge_task_t task = task_of("a.example");
    crypto_bundle_t *bundle = NULL;
    base_error_t err;

    (void)state;
    assert_int_equal(challenge_tlsalpn01_answer(&bundle, cache, "a.example", pool),
                     APR_NOTFOUND);
    assert_int_equal(challenge_tlsalpn01.publish(&task, pool, &err), APR_SUCCESS);
    assert_int_equal(access(apr_pstrcat(pool, base, "/a.example+token", NULL), F_OK), 0);
    assert_int_equal(challenge_tlsalpn01_answer(&bundle, cache, "a.example", pool), APR_SUCCESS);
    assert_true(crypto_challenge_cert_is(bundle->leaf));
    assert_true(crypto_bundle_covers(bundle->leaf, "a.example"));
    crypto_bundle_free(bundle);
    assert_int_equal(challenge_tlsalpn01_answer(&bundle, cache, "b.example", pool),
                     APR_NOTFOUND);
    assert_int_equal(challenge_tlsalpn01_answer(&bundle, cache, "../a", pool), APR_NOTFOUND);
    challenge_tlsalpn01.withdraw(&task, pool);
    assert_int_equal(challenge_tlsalpn01_answer(&bundle, cache, "a.example", pool),
                     APR_NOTFOUND);
    assert_null(bundle);
    challenge_tlsalpn01.withdraw(&task, pool);
}

static void test_answer_is_a_challenge_certificate_of_the_name(void **state)
{
    challenge_task_t task = task_of("b.example");
    apr_array_header_t *names = apr_array_make(pool, 1, sizeof(const char *));
    crypto_bundle_t *bundle = NULL;
    char *pem = NULL;
    apr_size_t len = 0;
    base_error_t err;

    (void)state;
    APR_ARRAY_PUSH(names, const char *) = "a.example";
    assert_int_equal(crypto_placeholder_make(&pem, &len, names, apr_time_now(), pool, &err),
                     APR_SUCCESS);
    cache_put(cache, AUTOCERT_CACHE_SHARED, "a.example+token", pem, len, pool);
    assert_int_equal(challenge_tlsalpn01_answer(&bundle, cache, "a.example", pool),
                     APR_NOTFOUND);
    assert_int_equal(challenge_tlsalpn01.publish(&task, pool, &err), APR_SUCCESS);
    assert_int_equal(cache_get(cache, AUTOCERT_CACHE_SHARED, "b.example+token", &pem, &len, pool),
                     APR_SUCCESS);
    cache_put(cache, AUTOCERT_CACHE_SHARED, "a.example+token", pem, len, pool);
    assert_int_equal(challenge_tlsalpn01_answer(&bundle, cache, "a.example", pool),
                     APR_NOTFOUND);
    cache_put(cache, AUTOCERT_CACHE_SHARED, "a.example+token", "junk", 4, pool);
    assert_int_equal(challenge_tlsalpn01_answer(&bundle, cache, "a.example", pool),
                     APR_NOTFOUND);
    assert_null(bundle);
}

static void test_publish_tells_the_reason(void **state)
{
    challenge_task_t task = task_of("a.example");
    base_error_t err;

    (void)state;
    assert_int_equal(mkdir(apr_pstrcat(pool, base, "/a.example+token", NULL), 0700), 0);
    assert_int_not_equal(challenge_tlsalpn01.publish(&task, pool, &err), APR_SUCCESS);
    assert_int_equal(err.kind, BASE_ERROR_LOCAL);
    assert_non_null(strstr(err.detail, "cannot write the tls-alpn-01 certificate to the cache"));
}

/* Files cannot have the colons of an address in their names. */
static void test_address(void **state)
{
    challenge_task_t task = task_of("2001:db8::1");
    crypto_bundle_t *bundle = NULL;
    char *pem = NULL;
    apr_size_t len = 0;
    base_error_t err;

    (void)state;
    assert_int_equal(challenge_tlsalpn01.publish(&task, pool, &err), APR_SUCCESS);
    assert_int_equal(cache_get(cache, AUTOCERT_CACHE_SHARED, "ip6-2001-db8--1+token", &pem, &len, pool),
                     APR_SUCCESS);
    assert_int_equal(challenge_tlsalpn01_answer(&bundle, cache, "2001:db8::1", pool), APR_SUCCESS);
    crypto_bundle_free(bundle);
    assert_int_equal(challenge_tlsalpn01_answer(&bundle, cache, "2001:db8::2", pool), APR_NOTFOUND);
    challenge_tlsalpn01.withdraw(&task, pool);
    assert_int_equal(challenge_tlsalpn01_answer(&bundle, cache, "2001:db8::1", pool), APR_NOTFOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_CACHE(test_address),
        cmocka_unit_test(test_real_hellos),
        cmocka_unit_test(test_truncated_at_every_byte),
        cmocka_unit_test(test_longer_than_it_says),
        cmocka_unit_test(test_extensions_by_hand),
        WITH_CACHE(test_publish_answer_withdraw),
        WITH_CACHE(test_answer_is_a_challenge_certificate_of_the_name),
        WITH_CACHE(test_publish_tells_the_reason)
    };

    return RUN_TESTS(tests);
}
