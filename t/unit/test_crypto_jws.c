/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <apr_general.h>
#include <apr_strings.h>
#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/hmac.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "base/json.h"
#include "crypto/jws.h"
#include "crypto/key.h"
#include "run.h"

#define SIGNATURES 2000     /* one in 256 has a leading zero octet in R, one in S */

static apr_pool_t *pool;

/* RFC 7515 appendix A.3 as PEM (SEC 1). */
static const char RFC7515_A3[] =
    "-----BEGIN EC PRIVATE KEY-----\n"
    "MHcCAQEEII6bEJ5xkJi/mASH3x9dd+nLKWBuvtImO19XwhPfhPSyoAoGCCqGSM49\n"
    "AwEHoUQDQgAEf83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEXH8UTNG72b\n"
    "focs3+257rn0s2ldbqkLJK2KRiMohYjlrQ==\n"
    "-----END EC PRIVATE KEY-----\n";

/* The public key of RFC 7638 section 3.1 (SubjectPublicKeyInfo). */
static const char RFC7638_N[] =
    "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_"
    "BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0"
    "_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWh"
    "AI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";

static unsigned char *decode_url(const char *text, size_t text_len, size_t *len)
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    unsigned char *out = apr_palloc(pool, text_len + 1);
    unsigned int bits = 0, have = 0;
    size_t i;

    *len = 0;
    for (i = 0; i < text_len; i++) {
        const char *at = strchr(letters, text[i]);

        assert_true(text[i] && at);
        bits = bits << 6 | (unsigned int)(at - letters);
        have += 6;
        if (have >= 8) {
            have -= 8;
            out[(*len)++] = (unsigned char)(bits >> have);
        }
    }
    out[*len] = 0;
    return out;
}

static EVP_PKEY *read_a3(void)
{
    EVP_PKEY *key = NULL;

    assert_int_equal(crypto_key_read(&key, RFC7515_A3, sizeof(RFC7515_A3) - 1, NULL), APR_SUCCESS);
    return key;
}

static void test_ec_jwk(void **state)
{
    EVP_PKEY *key = read_a3();

    (void)state;
    assert_string_equal(crypto_jws_jwk(key, pool),
                        "{\"crv\":\"P-256\",\"kty\":\"EC\","
                        "\"x\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\","
                        "\"y\":\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0\"}");
    assert_string_equal(crypto_jws_thumbprint(key, pool),
                        "oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U");
    assert_string_equal(crypto_jws_algorithm(key), "ES256");
    EVP_PKEY_free(key);
}

/* DER of a SubjectPublicKeyInfo with this modulus and e = 65537. */
static EVP_PKEY *read_rfc7638(void)
{
    static const unsigned char head[] = {
        0x30, 0x82, 0x01, 0x22, 0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01,
        0x01, 0x01, 0x05, 0x00, 0x03, 0x82, 0x01, 0x0f, 0x00, 0x30, 0x82, 0x01, 0x0a, 0x02, 0x82,
        0x01, 0x01, 0x00,
    };
    static const unsigned char tail[] = { 0x02, 0x03, 0x01, 0x00, 0x01 };
    unsigned char der[sizeof(head) + 256 + sizeof(tail)];
    const unsigned char *p = der;
    size_t len;
    unsigned char *n = decode_url(RFC7638_N, sizeof(RFC7638_N) - 1, &len);
    EVP_PKEY *key;

    assert_int_equal(len, 256);
    memcpy(der, head, sizeof(head));
    memcpy(der + sizeof(head), n, 256);
    memcpy(der + sizeof(head) + 256, tail, sizeof(tail));
    key = d2i_PUBKEY(NULL, &p, sizeof(der));
    assert_non_null(key);
    return key;
}

static void test_rsa_thumbprint(void **state)
{
    EVP_PKEY *key = read_rfc7638();

    (void)state;
    assert_string_equal(crypto_jws_jwk(key, pool),
                        apr_pstrcat(pool, "{\"e\":\"AQAB\",\"kty\":\"RSA\",\"n\":\"", RFC7638_N,
                                    "\"}", NULL));
    assert_string_equal(crypto_jws_thumbprint(key, pool),
                        "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    assert_string_equal(crypto_jws_algorithm(key), "RS256");
    EVP_PKEY_free(key);
}

/* Take a JWS apart and verify it with OpenSSL alone. @return the protected header */
static json_t *verify_jws(const char *jws, EVP_PKEY *key, const EVP_MD *md, size_t half,
                          const char *payload)
{
    json_t *whole = base_json_parse_object(jws, strlen(jws), pool);
    const char *head, *body, *text, *signature;
    unsigned char *raw, *plain, *der = NULL;
    size_t raw_len, plain_len;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();

    assert_non_null(whole);
    assert_int_equal(json_object_size(whole), 3);
    head = base_json_string(whole, "protected");
    body = base_json_string(whole, "payload");
    signature = base_json_string(whole, "signature");
    raw = decode_url(signature, strlen(signature), &raw_len);
    if (half) {
        ECDSA_SIG *sig = ECDSA_SIG_new();
        int len;

        assert_int_equal(raw_len, 2 * half);
        ECDSA_SIG_set0(sig, BN_bin2bn(raw, (int)half, NULL),
                       BN_bin2bn(raw + half, (int)half, NULL));
        len = i2d_ECDSA_SIG(sig, &der);
        ECDSA_SIG_free(sig);
        raw = der;
        raw_len = (size_t)len;
    }
    text = apr_pstrcat(pool, head, ".", body, NULL);
    assert_int_equal(EVP_DigestVerifyInit(ctx, NULL, md, NULL, key), 1);
    assert_int_equal(EVP_DigestVerify(ctx, raw, raw_len, (const unsigned char *)text,
                                      strlen(text)), 1);
    EVP_MD_CTX_free(ctx);
    OPENSSL_free(der);
    plain = decode_url(body, strlen(body), &plain_len);
    assert_string_equal((char *)plain, payload);
    plain = decode_url(head, strlen(head), &plain_len);
    return base_json_parse_object((char *)plain, plain_len, pool);
}

static const crypto_jws_header_t WITH_KID = { "nonce-1", "https://ca/x?a=\"b\"", "https://ca/1" };
static const crypto_jws_header_t WITH_JWK = { NULL, "https://ca/new", NULL };

static void test_sign(void **state)
{
    static const struct {
        crypto_key_type_t type;
        const char *alg;
        const EVP_MD *(*md)(void);
        size_t half;
    } rows[] = {
        { CRYPTO_KEY_P256, "ES256", EVP_sha256, 32 },
        { CRYPTO_KEY_P384, "ES384", EVP_sha384, 48 },
        { CRYPTO_KEY_RSA2048, "RS256", EVP_sha256, 0 },
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        EVP_PKEY *key = NULL;
        const char *jws = NULL;
        json_t *head;

        crypto_key_generate(&key, rows[i].type, NULL);
        assert_int_equal(crypto_jws_sign(&jws, key, &WITH_KID, "{\"a\":1}", pool, NULL), 0);
        head = verify_jws(jws, key, rows[i].md(), rows[i].half, "{\"a\":1}");
        assert_int_equal(json_object_size(head), 4);
        assert_string_equal(base_json_string(head, "alg"), rows[i].alg);
        assert_string_equal(base_json_string(head, "nonce"), "nonce-1");
        assert_string_equal(base_json_string(head, "url"), "https://ca/x?a=\"b\"");
        assert_string_equal(base_json_string(head, "kid"), "https://ca/1");

        assert_int_equal(crypto_jws_sign(&jws, key, &WITH_JWK, "", pool, NULL), 0);
        assert_non_null(strstr(jws, "\"payload\":\"\""));
        head = verify_jws(jws, key, rows[i].md(), rows[i].half, "");
        assert_int_equal(json_object_size(head), 3);
        assert_string_equal(base_json_dump(json_incref(base_json_object(head, "jwk")), pool),
                            crypto_jws_jwk(key, pool));
        EVP_PKEY_free(key);
    }
}

/* F48: R or S with leading zero octets keep their width. */
static void test_fixed_width(void **state)
{
    EVP_PKEY *key = read_a3();
    apr_pool_t *kept = pool, *sub;
    int i, short_ones = 0;

    (void)state;
    apr_pool_create(&sub, pool);
    pool = sub;
    for (i = 0; i < SIGNATURES; i++) {
        const char *jws = NULL;
        const unsigned char *raw;
        size_t len;

        apr_pool_clear(sub);
        assert_int_equal(crypto_jws_sign(&jws, key, &WITH_KID, "{}", sub, NULL), APR_SUCCESS);
        verify_jws(jws, key, EVP_sha256(), 32, "{}");
        jws = strstr(jws, "\"signature\":\"") + 13;
        raw = decode_url(jws, strcspn(jws, "\""), &len);
        assert_int_equal(len, 64);
        short_ones += raw[0] == 0 || raw[32] == 0;
    }
    pool = kept;
    apr_pool_destroy(sub);
    EVP_PKEY_free(key);
    assert_true(short_ones > 0);    /* chance of none: 2 in ten million */
}

/* Public numbers with leading zero octets: x and y stay 32 octets wide. */
static void test_narrow_coordinates(void **state)
{
    int i, narrow = 0;

    (void)state;
    for (i = 0; i < 4000 && narrow < 2; i++) {
        EVP_PKEY *key = NULL;
        const char *jwk, *x, *y;

        crypto_key_generate(&key, CRYPTO_KEY_P256, NULL);
        jwk = crypto_jws_jwk(key, pool);
        EVP_PKEY_free(key);
        x = strstr(jwk, "\"x\":\"") + 5;
        y = strstr(jwk, "\"y\":\"") + 5;
        assert_int_equal(strcspn(x, "\""), 43);
        assert_int_equal(strcspn(y, "\""), 43);
        narrow += x[0] == 'A' && x[1] < 'Q' && x[1] >= 'A';
    }
    assert_true(narrow > 0);
}

static void test_refuses(void **state)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_id(EVP_PKEY_ED25519, NULL);
    crypto_jws_header_t bad = { NULL, "\xff", NULL };
    EVP_PKEY *key = NULL, *good = read_a3();
    const char *jws = NULL;

    (void)state;
    assert_true(EVP_PKEY_keygen_init(ctx) > 0 && EVP_PKEY_keygen(ctx, &key) > 0);
    assert_null(crypto_jws_algorithm(key));
    assert_null(crypto_jws_jwk(key, pool));
    assert_null(crypto_jws_thumbprint(key, pool));
    assert_int_not_equal(crypto_jws_sign(&jws, key, &WITH_KID, "", pool, NULL), APR_SUCCESS);
    assert_int_not_equal(crypto_jws_sign(&jws, good, &bad, "", pool, NULL), APR_SUCCESS);
    assert_null(jws);
    assert_int_equal(ERR_peek_error(), 0);
    EVP_PKEY_free(key);
    EVP_PKEY_free(good);
    EVP_PKEY_CTX_free(ctx);
}

/* The MAC over it, computed here from the raw key. */
static void check_binding(const char *jws, EVP_PKEY *account, const unsigned char *mac_key, int mac_len)
{
    json_t *whole = base_json_parse_object(jws, strlen(jws), pool);
    const char *head = base_json_string(whole, "protected"), *body = base_json_string(whole, "payload");
    const char *signature = base_json_string(whole, "signature"), *text;
    unsigned char mac[EVP_MAX_MD_SIZE], *raw;
    unsigned int len = 0;
    size_t raw_len;

    assert_int_equal(json_object_size(whole), 3);
    text = apr_pstrcat(pool, head, ".", body, NULL);
    assert_non_null(HMAC(EVP_sha256(), mac_key, mac_len, (const unsigned char *)text, strlen(text), mac,
                         &len));
    raw = decode_url(signature, strlen(signature), &raw_len);
    assert_int_equal(raw_len, len);
    assert_memory_equal(raw, mac, len);
    assert_string_equal((char *)decode_url(body, strlen(body), &raw_len), crypto_jws_jwk(account, pool));
    assert_string_equal((char *)decode_url(head, strlen(head), &raw_len),
                        "{\"alg\":\"HS256\",\"kid\":\"kid-1\",\"url\":\"https://ca/new\"}");
}

static void test_binding(void **state)
{
    /* The bytes fb ff fe 01, whose letters differ between the alphabets, in all ways to write them. */
    static const unsigned char raw[] = { 0xfb, 0xff, 0xfe, 0x01 };
    static const char *const good[] = {
        "-__-AQ", "-__-AQ==", "+//+AQ", "+//+AQ==", " -__-AQ\n", "+//+AQ==\r\n"
    };
    static const char *const bad[] = {
        "", " ", "====", "A", "-//-AQ", "-__-AQ=", "-__-AQ===", "-__-A", "-__ -AQ", "-__-AQ==x", "-__-\xc3"
    };
    EVP_PKEY *account = read_a3();
    base_error_t err;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        const char *jws = NULL;

        assert_true(crypto_jws_is_mac_key(good[i]));
        assert_int_equal(crypto_jws_sign_binding(&jws, account, "kid-1", good[i], "https://ca/new", pool,
                                                 &err), APR_SUCCESS);
        check_binding(jws, account, raw, sizeof(raw));
    }
    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        const char *jws = NULL;

        assert_false(crypto_jws_is_mac_key(bad[i]));
        assert_int_not_equal(crypto_jws_sign_binding(&jws, account, "kid-1", bad[i], "https://ca/new",
                                                     pool, &err), APR_SUCCESS);
        assert_int_equal(err.kind, BASE_ERROR_OPERATOR);
        assert_null(jws);
        /* The key is a secret. */
        assert_null(strstr(err.detail, "AQ"));
    }
    EVP_PKEY_free(account);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_ec_jwk),
    cmocka_unit_test(test_rsa_thumbprint),
    cmocka_unit_test(test_sign),
    cmocka_unit_test(test_fixed_width),
    cmocka_unit_test(test_narrow_coordinates),
    cmocka_unit_test(test_refuses),
    cmocka_unit_test(test_binding),
};

int main(void)
{
    return RUN_TESTS_WITH_POOL(tests, pool);
}
