/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include "crypto/peer.h"
#include "run.h"

#define ROUNDS_MAX 10       /* of messages from one side to the other */

/* What the certificate callback found, and how often it was called. */
typedef struct found_t {
    int called;
    int can[CRYPTO_KEY_TYPES];
} found_t;

/* What a client offers; NULL: OpenSSL's own. */
typedef struct offer_t {
    int version;
    const char *suites;     /* of TLS 1.2 */
    const char *sigalgs;
    const char *groups;
} offer_t;

static int judge_client(SSL *ssl, void *baton)
{
    found_t *found = baton;

    found->called++;
    for (int i = 0; i < CRYPTO_KEY_TYPES; i++) {
        found->can[i] = crypto_peer_can_use(ssl, (crypto_key_type_t)i);
    }
    return 0;
}

static SSL_CTX *make_client(const offer_t *offer)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());

    assert_non_null(ctx);
    assert_int_equal(SSL_CTX_set_min_proto_version(ctx, offer->version), 1);
    assert_int_equal(SSL_CTX_set_max_proto_version(ctx, offer->version), 1);
    if (offer->suites) {
        assert_int_equal(SSL_CTX_set_cipher_list(ctx, offer->suites), 1);
    }
    if (offer->sigalgs) {
        assert_int_equal(SSL_CTX_set1_sigalgs_list(ctx, offer->sigalgs), 1);
    }
    if (offer->groups) {
        assert_int_equal(SSL_CTX_set1_groups_list(ctx, offer->groups), 1);
    }
    return ctx;
}

/* A handshake up to the certificate callback. */
static void say_hello(const offer_t *offer, found_t *found)
{
    SSL_CTX *client_ctx = make_client(offer), *server_ctx = SSL_CTX_new(TLS_server_method());
    SSL *client = SSL_new(client_ctx), *server = SSL_new(server_ctx);
    BIO *one = NULL, *other = NULL;

    memset(found, 0, sizeof(*found));
    SSL_CTX_set_cert_cb(server_ctx, judge_client, found);
    SSL_free(server);
    server = SSL_new(server_ctx);
    assert_int_equal(BIO_new_bio_pair(&one, 0, &other, 0), 1);
    SSL_set_bio(client, one, one);
    SSL_set_bio(server, other, other);
    for (int i = 0; i < ROUNDS_MAX && !found->called; i++) {
        SSL_connect(client);
        SSL_accept(server);
    }
    assert_int_equal(found->called, 1);
    SSL_free(client);
    SSL_free(server);
    SSL_CTX_free(client_ctx);
    SSL_CTX_free(server_ctx);
    ERR_clear_error();
}

static void expect(const offer_t *offer, int p256, int p384, int rsa)
{
    found_t found;

    say_hello(offer, &found);
    assert_int_equal(found.can[CRYPTO_KEY_P256], p256);
    assert_int_equal(found.can[CRYPTO_KEY_P384], p384);
    assert_int_equal(found.can[CRYPTO_KEY_RSA2048], rsa);
    assert_int_equal(found.can[CRYPTO_KEY_RSA3072], rsa);
    assert_int_equal(found.can[CRYPTO_KEY_RSA4096], rsa);
}

static void tls12_needs_suite_signature_and_curve(void **state)
{
    (void)state;
    /* SE-01, SE-02: suites */
    expect(&(offer_t){ TLS1_2_VERSION, "ECDHE-RSA-AES128-GCM-SHA256", NULL, NULL }, 0, 0, 1);
    expect(&(offer_t){ TLS1_2_VERSION, "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES128-GCM-SHA256", NULL,
                       NULL }, 1, 1, 1);
    expect(&(offer_t){ TLS1_2_VERSION, "AES128-GCM-SHA256", NULL, NULL }, 0, 0, 1);
    expect(&(offer_t){ TLS1_2_VERSION, "ECDHE-ECDSA-AES128-GCM-SHA256", NULL, NULL }, 1, 1, 0);
    /* SE-03: a signature without a suite */
    expect(&(offer_t){ TLS1_2_VERSION, "ECDHE-RSA-AES128-GCM-SHA256", "ECDSA+SHA256:RSA+SHA256", NULL }, 0, 0,
           1);
    /* SE-04: a suite without a signature */
    expect(&(offer_t){ TLS1_2_VERSION, "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256",
                       "RSA+SHA256", NULL }, 0, 0, 1);
    /* SE-05: all */
    expect(&(offer_t){ TLS1_2_VERSION, "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256",
                       "ECDSA+SHA256:RSA+SHA256", "P-256" }, 1, 0, 1);
    /* SE-06, SE-07: curves */
    expect(&(offer_t){ TLS1_2_VERSION, "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256", NULL,
                       "P-521" }, 0, 0, 1);
    expect(&(offer_t){ TLS1_2_VERSION, "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256", NULL,
                       "P-256:P-521" }, 1, 0, 1);
    expect(&(offer_t){ TLS1_2_VERSION, "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256", NULL,
                       "P-384" }, 0, 1, 1);
}

static void tls13_needs_a_signature_only(void **state)
{
    (void)state;
    expect(&(offer_t){ TLS1_3_VERSION, NULL, NULL, NULL }, 1, 1, 1);
    expect(&(offer_t){ TLS1_3_VERSION, NULL, NULL, "X25519" }, 1, 1, 1);
    expect(&(offer_t){ TLS1_3_VERSION, NULL, "ECDSA+SHA256", NULL }, 1, 0, 0);
    expect(&(offer_t){ TLS1_3_VERSION, NULL, "ECDSA+SHA384", NULL }, 0, 1, 0);
    expect(&(offer_t){ TLS1_3_VERSION, NULL, "RSA-PSS+SHA256", NULL }, 0, 0, 1);
    expect(&(offer_t){ TLS1_3_VERSION, NULL, "ed25519", NULL }, 0, 0, 0);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(tls12_needs_suite_signature_and_curve),
    cmocka_unit_test(tls13_needs_a_signature_only),
};

int main(void)
{
    return RUN_TESTS(tests);
}
