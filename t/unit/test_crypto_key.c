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
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "crypto/key.h"
#include "run.h"

static apr_pool_t *pool;

static EVP_PKEY *make_key(crypto_key_type_t type)
{
    EVP_PKEY *key = NULL;

    assert_int_equal(crypto_key_generate(&key, type, NULL), APR_SUCCESS);
    return key;
}

/* PKCS #8, encrypted when there is a password. */
static char *write_pkcs8(EVP_PKEY *key, const char *password)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *data, *text;
    long len;

    assert_true(PEM_write_bio_PKCS8PrivateKey(bio, key, password ? EVP_aes_128_cbc() : NULL,
                                              password, password ? (int)strlen(password) : 0,
                                              NULL, NULL));
    len = BIO_get_mem_data(bio, &data);
    text = apr_pstrmemdup(pool, data, (apr_size_t)len);
    BIO_free(bio);
    return text;
}

static char *write_plain(EVP_PKEY *key)
{
    char *pem = NULL;
    apr_size_t len = 0;

    assert_int_equal(crypto_key_write(&pem, &len, key, pool, NULL), APR_SUCCESS);
    assert_int_equal(strlen(pem), len);
    return pem;
}

static const char *read_error(const char *pem)
{
    static base_error_t err;
    EVP_PKEY *key = NULL;

    if (crypto_key_read(&key, pem, strlen(pem), &err) == APR_SUCCESS) {
        EVP_PKEY_free(key);
        return NULL;
    }
    assert_null(key);
    assert_int_equal(ERR_peek_error(), 0);
    return err.detail;
}

static void test_types(void **state)
{
    static const struct {
        const char *spelling;
        int type;
    } rows[] = {
        { "p256", CRYPTO_KEY_P256 }, { "P-256", CRYPTO_KEY_P256 },
        { "SECP256R1", CRYPTO_KEY_P256 }, { "prime256v1", CRYPTO_KEY_P256 },
        { "p384", CRYPTO_KEY_P384 }, { "secp384r1", CRYPTO_KEY_P384 },
        { "rsa2048", CRYPTO_KEY_RSA2048 }, { "RSA-3072", CRYPTO_KEY_RSA3072 },
        { "rsa4096", CRYPTO_KEY_RSA4096 },
        { "", -1 }, { "p25", -1 }, { "ed25519", -1 }, { "rsa1024", -1 }, { "p2566", -1 },
    };
    crypto_key_type_t type;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_int_equal(crypto_key_type_find(&type, rows[i].spelling), rows[i].type >= 0);
        if (rows[i].type >= 0)
            assert_int_equal(type, rows[i].type);
    }
    for (i = 0; i < CRYPTO_KEY_TYPES; i++) {
        assert_true(crypto_key_type_find(&type, crypto_key_type_name((crypto_key_type_t)i)));
        assert_int_equal(type, i);
        assert_int_equal(crypto_key_type_is_rsa((crypto_key_type_t)i), i >= CRYPTO_KEY_RSA2048);
    }
}

static void test_round_trip(void **state)
{
    size_t i, k;

    (void)state;
    for (i = 0; i <= CRYPTO_KEY_RSA2048; i++) {
        EVP_PKEY *key = make_key((crypto_key_type_t)i), *again = NULL;
        char *plain = write_plain(key), *pkcs8 = write_pkcs8(key, NULL);

        for (k = 0; k < CRYPTO_KEY_TYPES; k++)
            assert_int_equal(crypto_key_is(key, (crypto_key_type_t)k), i == k);
        assert_int_equal(crypto_key_is_rsa(key), i == CRYPTO_KEY_RSA2048);
        assert_int_equal(crypto_key_read(&again, plain, strlen(plain), NULL), APR_SUCCESS);
        assert_string_equal(write_plain(again), plain);
        EVP_PKEY_free(again);
        /* PKCS #8 in, traditional out: the very same bytes. */
        assert_int_equal(crypto_key_read(&again, pkcs8, strlen(pkcs8), NULL), APR_SUCCESS);
        assert_string_equal(write_plain(again), plain);
        EVP_PKEY_free(again);
        EVP_PKEY_free(key);
    }
}

static unsigned char *decode_only_block(const char *pem, const char *label, long *len)
{
    BIO *bio = BIO_new_mem_buf(pem, -1);
    char *name = NULL, *header = NULL;
    unsigned char *der = NULL;

    assert_true(PEM_read_bio(bio, &name, &header, &der, len));
    assert_string_equal(name, label);
    assert_string_equal(header, "");
    assert_int_equal(BIO_pending(bio), 0);      /* nothing after it */
    OPENSSL_free(name);
    OPENSSL_free(header);
    BIO_free(bio);
    return der;
}

/* The bytes Go writes: SEC 1 with version, 32 octets, [0] prime256v1, [1] public key. */
static void test_ec_structure(void **state)
{
    static const unsigned char head[] = { 0x30, 0x77, 2, 1, 1, 4, 32 };
    static const unsigned char middle[] = { 0xa0, 0x0a, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7,
                                            0xa1, 0x44, 3, 0x42, 0, 4 };
    EVP_PKEY *key = make_key(CRYPTO_KEY_P256);
    char *pem = write_plain(key), *line;
    unsigned char *der;
    long len = 0;

    (void)state;
    assert_int_equal(strlen(pem), 227);
    assert_int_equal(strncmp(pem, "-----BEGIN EC PRIVATE KEY-----\n", 31), 0);
    line = pem + 31;
    assert_int_equal(strchr(line, '\n') - line, 64);
    assert_null(strchr(pem, '\r'));
    assert_null(strstr(pem, "PARAMETERS"));
    der = decode_only_block(pem, "EC PRIVATE KEY", &len);
    assert_int_equal(len, 121);
    assert_memory_equal(der, head, sizeof(head));
    assert_memory_equal(der + sizeof(head) + 32, middle, sizeof(middle));
    OPENSSL_free(der);
    EVP_PKEY_free(key);
}

static void test_rsa_structure(void **state)
{
    EVP_PKEY *key = make_key(CRYPTO_KEY_RSA2048);
    char *pem = write_plain(key);
    unsigned char *der;
    long len = 0;

    (void)state;
    der = decode_only_block(pem, "RSA PRIVATE KEY", &len);
    /* PKCS #1: version 0, then at once the modulus. */
    assert_int_equal(der[0], 0x30);
    assert_memory_equal(der + 4, "\x02\x01\x00\x02\x82\x01\x01\x00", 8);
    OPENSSL_free(der);
    EVP_PKEY_free(key);
}

static void test_accepts(void **state)
{
    EVP_PKEY *key = make_key(CRYPTO_KEY_P256);
    char *pem = write_plain(key), *crlf = "", *c, letter[3] = "";

    (void)state;
    for (c = pem; *c; c++) {
        letter[0] = *c == '\n' ? '\r' : *c;
        letter[1] = *c == '\n' ? '\n' : '\0';
        crlf = apr_pstrcat(pool, crlf, letter, NULL);
    }
    assert_null(read_error(crlf));
    assert_null(read_error(apr_pstrcat(pool, "some text\n\n", pem, "junk", NULL)));
    /* SEC 1 under the label of PKCS #8 */
    assert_null(read_error(apr_pstrcat(pool, "-----BEGIN PRIVATE KEY-----\n",
                                       apr_pstrmemdup(pool, pem + 31, strlen(pem) - 31 - 29),
                                       "-----END PRIVATE KEY-----\n", NULL)));
    assert_null(read_error(apr_pstrcat(pool, "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n"
                                       "-----END EC PARAMETERS-----\n", pem, NULL)));
    EVP_PKEY_free(key);
}

static void test_refuses_encrypted(void **state)
{
    EVP_PKEY *key = make_key(CRYPTO_KEY_P256);
    BIO *bio = BIO_new(BIO_s_mem());
    char *data, *pem = write_pkcs8(key, "secret");
    const char *begin = "-----BEGIN PRIVATE KEY-----\n";
    long len;

    (void)state;
    assert_string_equal(read_error(pem), "the private key is encrypted");
    /* the same under a label that does not say so */
    pem = apr_pstrcat(pool, begin, strchr(pem, '\n') + 1, NULL);
    pem[strlen(pem) - strlen("-----END ENCRYPTED PRIVATE KEY-----\n")] = '\0';
    pem = apr_pstrcat(pool, pem, "-----END PRIVATE KEY-----\n", NULL);
    assert_non_null(strstr(read_error(pem), "damaged"));
    /* RFC 1421 style */
    assert_true(PEM_write_bio_PrivateKey_traditional(bio, key, EVP_aes_128_cbc(),
                                                     (unsigned char *)"secret", 6, NULL, NULL));
    len = BIO_get_mem_data(bio, &data);
    pem = apr_pstrmemdup(pool, data, (apr_size_t)len);
    assert_string_equal(read_error(pem), "the private key is encrypted");
    BIO_free(bio);
    EVP_PKEY_free(key);
}

static EVP_PKEY *make_other(int id, int curve, int bits)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_id(id, NULL);
    EVP_PKEY *key = NULL;

    assert_true(EVP_PKEY_keygen_init(ctx) > 0);
    if (curve)
        assert_true(EVP_PKEY_CTX_set_ec_paramgen_curve_nid(ctx, curve) > 0);
    if (bits)
        assert_true(EVP_PKEY_CTX_set_rsa_keygen_bits(ctx, bits) > 0);
    assert_true(EVP_PKEY_keygen(ctx, &key) > 0);
    EVP_PKEY_CTX_free(ctx);
    return key;
}

static void test_kinds(void **state)
{
    static const struct {
        int id, curve, bits;
        const char *why;
    } rows[] = {
        { EVP_PKEY_ED25519, 0, 0, "neither RSA nor EC" },
        { EVP_PKEY_EC, NID_secp256k1, 0, "not on P-256" },
        { EVP_PKEY_RSA, 0, 1024, "fewer than 2048" },
        { EVP_PKEY_EC, NID_secp521r1, 0, NULL },
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        EVP_PKEY *key = make_other(rows[i].id, rows[i].curve, rows[i].bits);
        const char *why = read_error(write_pkcs8(key, NULL));

        if (rows[i].why)
            assert_non_null(strstr(why, rows[i].why));
        else
            assert_null(why);
        EVP_PKEY_free(key);
    }
}

static void test_damaged(void **state)
{
    EVP_PKEY *key = make_key(CRYPTO_KEY_P256);
    char *pem = write_plain(key), *cut = apr_pstrdup(pool, pem), *big;

    (void)state;
    /* another private half beside the same public one */
    memcpy(cut + 31 + 16, "AAAABBBB", 8);
    assert_non_null(strstr(read_error(cut), "halves"));
    assert_non_null(read_error(""));
    assert_non_null(read_error("garbage"));
    assert_non_null(read_error(apr_pstrmemdup(pool, pem, 100)));
    assert_non_null(read_error(apr_pstrmemdup(pool, pem, strlen(pem) - 10)));
    assert_non_null(read_error("-----BEGIN EC PRIVATE KEY-----\nAAAA\n"
                               "-----END EC PRIVATE KEY-----\n"));
    big = apr_palloc(pool, CRYPTO_PEM_BYTES_MAX + 2);
    memset(big, '\n', CRYPTO_PEM_BYTES_MAX + 1);
    big[CRYPTO_PEM_BYTES_MAX + 1] = '\0';
    memcpy(big, pem, strlen(pem));
    assert_non_null(strstr(read_error(big), "longer"));
    big[CRYPTO_PEM_BYTES_MAX] = '\0';
    assert_null(read_error(big));
    EVP_PKEY_free(key);
}

/* Registered before the text is made, so run after the text's own cleanup and before
 * the memory goes. */
static apr_status_t look_at_text(void *baton)
{
    char **pem = baton;

    if ((*pem)[0] == '\0' && (*pem)[40] == '\0' && (*pem)[226] == '\0')
        *pem = NULL;
    return APR_SUCCESS;
}

static void test_cleansed(void **state)
{
    EVP_PKEY *key = make_key(CRYPTO_KEY_P256);
    apr_pool_t *sub;
    char *pem = NULL;
    apr_size_t len = 0;

    (void)state;
    apr_pool_create(&sub, pool);
    apr_pool_cleanup_register(sub, &pem, look_at_text, apr_pool_cleanup_null);
    assert_int_equal(crypto_key_write(&pem, &len, key, sub, NULL), APR_SUCCESS);
    assert_int_equal(len, 227);
    apr_pool_destroy(sub);
    assert_null(pem);
    EVP_PKEY_free(key);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_types),
    cmocka_unit_test(test_round_trip),
    cmocka_unit_test(test_ec_structure),
    cmocka_unit_test(test_rsa_structure),
    cmocka_unit_test(test_accepts),
    cmocka_unit_test(test_refuses_encrypted),
    cmocka_unit_test(test_kinds),
    cmocka_unit_test(test_damaged),
    cmocka_unit_test(test_cleansed),
};

int main(void)
{
    return RUN_TESTS_WITH_POOL(tests, pool);
}
