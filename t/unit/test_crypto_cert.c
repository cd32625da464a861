/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "crypto/cert.h"
#include "crypto/key.h"
#include "run.h"

static apr_pool_t *pool;

/* A certificate with this serial number (big endian) and authority key identifier. */
static X509 *make_cert(EVP_PKEY *key, const unsigned char *serial, size_t serial_len,
                       const unsigned char *authority, size_t authority_len)
{
    crypto_cert_params_t params = {
        .key = key, .cn = "www.example.org", .serial = 1, .not_after = apr_time_from_sec(86400)
    };
    X509 *cert = crypto_cert_new(&params);
    BIGNUM *number = BN_bin2bn(serial, (int)serial_len, NULL);

    assert_non_null(cert);
    assert_non_null(BN_to_ASN1_INTEGER(number, X509_get_serialNumber(cert)));
    BN_free(number);
    if (authority) {
        AUTHORITY_KEYID *id = AUTHORITY_KEYID_new();

        if (authority_len > 0) {
            id->keyid = ASN1_OCTET_STRING_new();
            ASN1_OCTET_STRING_set(id->keyid, authority, (int)authority_len);
        }
        assert_int_equal(X509_add1_ext_i2d(cert, NID_authority_key_identifier, id, 0, 0), 1);
        AUTHORITY_KEYID_free(id);
    }
    assert_true(X509_sign(cert, key, EVP_sha256()) > 0);
    return cert;
}

static void test_renewal_id(void **state)
{
    /* RFC 9773 section 4.1 */
    static const unsigned char authority[] = {
        0x69, 0x88, 0x5b, 0x6b, 0x87, 0x46, 0x40, 0x41, 0xe1, 0xb3,
        0x7b, 0x84, 0x7b, 0xa0, 0xae, 0x2c, 0xde, 0x01, 0xc8, 0xd4
    };
    static const struct {
        unsigned char serial[20];
        size_t len;
        const char *text;
    } rows[] = {
        { { 0x87, 0x65, 0x43, 0x21 }, 4, "AIdlQyE" },       /* DER puts a zero before it */
        { { 0x07, 0x65, 0x43, 0x21 }, 4, "B2VDIQ" },        /* but not here */
        { { 0x80 }, 1, "AIA" },
        { { 0x7f }, 1, "fw" },
        { { 0xff, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19 }, 20,
          "AP8BAgMEBQYHCAkKCwwNDg8QERIT" }
    };
    EVP_PKEY *key = NULL;
    X509 *cert;
    size_t i;

    (void)state;
    assert_int_equal(crypto_key_generate(&key, CRYPTO_KEY_P256, NULL), APR_SUCCESS);
    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const char *id;

        cert = make_cert(key, rows[i].serial, rows[i].len, authority, sizeof(authority));
        id = crypto_cert_renewal_id(cert, pool);
        assert_non_null(id);
        assert_memory_equal(id, "aYhba4dGQEHhs3uEe6CuLN4ByNQ.", 28);
        assert_string_equal(id + 28, rows[i].text);
        X509_free(cert);
    }
    cert = make_cert(key, rows[0].serial, rows[0].len, NULL, 0);
    assert_null(crypto_cert_renewal_id(cert, pool));
    X509_free(cert);
    /* The extension names the authority in another way. */
    cert = make_cert(key, rows[0].serial, rows[0].len, authority, 0);
    assert_null(crypto_cert_renewal_id(cert, pool));
    X509_free(cert);
    EVP_PKEY_free(key);
}

/* The DER of a SAN: each name as its kind, in the order given. */
static void test_san(void **state)
{
    static const char *const names[] = { "192.0.2.1", "2001:db8::1", "*.a.org", "a.org", "::ffff:192.0.2.1" };
    static const char wanted[] =
        "\x30\x2e\x87\x04\xc0\x00\x02\x01"
        "\x87\x10\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\1"
        "\x82\x07*.a.org\x82\x05" "a.org\x87\x04\xc0\x00\x02\x01";
    X509_EXTENSION *ext = crypto_cert_san(names, 5, 1);

    (void)state;
    assert_non_null(ext);
    assert_int_equal(X509_EXTENSION_get_critical(ext), 1);
    assert_int_equal(ASN1_STRING_length(X509_EXTENSION_get_data(ext)), sizeof(wanted) - 1);
    assert_memory_equal(ASN1_STRING_get0_data(X509_EXTENSION_get_data(ext)), wanted, sizeof(wanted) - 1);
    X509_EXTENSION_free(ext);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_renewal_id),
        cmocka_unit_test(test_san),
    };

    return RUN_TESTS_WITH_POOL(tests, pool);
}
