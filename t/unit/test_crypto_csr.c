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
#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "crypto/csr.h"
#include "crypto/key.h"
#include "run.h"

static apr_pool_t *pool;

static X509_REQ *make_request(crypto_key_type_t type, const char *name,
                              const apr_array_header_t *extensions)
{
    EVP_PKEY *key = NULL;
    unsigned char *der = NULL;
    const unsigned char *p;
    apr_size_t len = 0;
    X509_REQ *req;

    assert_int_equal(crypto_key_generate(&key, type, NULL), APR_SUCCESS);
    assert_int_equal(crypto_csr_der(&der, &len, key, name, extensions, pool, NULL), APR_SUCCESS);
    p = der;
    req = d2i_X509_REQ(NULL, &p, (long)len);
    assert_non_null(req);
    assert_ptr_equal(p, der + len);
    assert_int_equal(X509_REQ_get_version(req), 0);
    assert_int_equal(X509_REQ_verify(req, key), 1);
    EVP_PKEY_free(key);
    return req;
}

/* The only name of the request's SAN, of this type. */
static const char *only_san_of(X509_REQ *req, int type)
{
    STACK_OF(X509_EXTENSION) *list = X509_REQ_get_extensions(req);
    GENERAL_NAMES *names = X509V3_get_d2i(list, NID_subject_alt_name, NULL, NULL);
    const GENERAL_NAME *name;
    const char *text;

    assert_int_equal(sk_GENERAL_NAME_num(names), 1);
    name = sk_GENERAL_NAME_value(names, 0);
    assert_int_equal(name->type, type);
    text = apr_pstrmemdup(pool, (const char *)ASN1_STRING_get0_data(name->d.ia5),
                          (apr_size_t)ASN1_STRING_length(name->d.ia5));
    GENERAL_NAMES_free(names);
    sk_X509_EXTENSION_pop_free(list, X509_EXTENSION_free);
    return text;
}

static const char *only_san(X509_REQ *req)
{
    return only_san_of(req, GEN_DNS);
}

static void test_plain(void **state)
{
    static const crypto_key_type_t types[] = { CRYPTO_KEY_P256, CRYPTO_KEY_P384,
                                               CRYPTO_KEY_RSA2048 };
    char cn[128];
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        X509_REQ *req = make_request(types[i], "example.org", NULL);

        assert_string_equal(only_san(req), "example.org");
        assert_int_equal(X509_NAME_entry_count(X509_REQ_get_subject_name(req)), 1);
        X509_NAME_get_text_by_NID(X509_REQ_get_subject_name(req), NID_commonName, cn, sizeof(cn));
        assert_string_equal(cn, "example.org");
        X509_REQ_free(req);
    }
}

static void test_long_name(void **state)
{
    const char *fits = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.example.org";
    const char *name = apr_pstrcat(pool, "a", fits, NULL);
    X509_REQ *req;

    (void)state;
    assert_int_equal(strlen(fits), 64);
    req = make_request(CRYPTO_KEY_P256, fits, NULL);
    assert_int_equal(X509_NAME_entry_count(X509_REQ_get_subject_name(req)), 1);
    X509_REQ_free(req);
    req = make_request(CRYPTO_KEY_P256, name, NULL);
    assert_int_equal(X509_NAME_entry_count(X509_REQ_get_subject_name(req)), 0);
    assert_string_equal(only_san(req), name);
    X509_REQ_free(req);
}

static void test_wildcard(void **state)
{
    X509_REQ *req = make_request(CRYPTO_KEY_P256, "*.example.org", NULL);
    char cn[128];

    (void)state;
    assert_string_equal(only_san(req), "*.example.org");
    X509_NAME_get_text_by_NID(X509_REQ_get_subject_name(req), NID_commonName, cn, sizeof(cn));
    assert_string_equal(cn, "*.example.org");
    X509_REQ_free(req);
}

/* RFC 8738: iPAddress of 4 or 16 bytes, and no CN. */
static void test_address(void **state)
{
    static const char *const names[] = { "192.0.2.1", "2001:db8::1" };
    size_t i;

    (void)state;
    for (i = 0; i < 2; i++) {
        X509_REQ *req = make_request(CRYPTO_KEY_P256, names[i], NULL);
        const char *bytes = only_san_of(req, GEN_IPADD);

        assert_int_equal(X509_NAME_entry_count(X509_REQ_get_subject_name(req)), 0);
        if (i == 0)
            assert_memory_equal(bytes, "\xc0\x00\x02\x01", 5);
        else
            assert_memory_equal(bytes, "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\1", 17);
        X509_REQ_free(req);
    }
}

static void test_extensions(void **state)
{
    apr_array_header_t *array = apr_array_make(pool, 2, sizeof(crypto_csr_extension_t));
    crypto_csr_extension_t *ext = apr_array_push(array);
    STACK_OF(X509_EXTENSION) *list;
    X509_EXTENSION *made;
    X509_REQ *req;

    (void)state;
    assert_null(crypto_csr_extension_parse(ext, "1.3.6.1.5.5.7.1.24", "3003020105", pool));
    req = make_request(CRYPTO_KEY_P256, "example.org", array);
    list = X509_REQ_get_extensions(req);
    assert_int_equal(sk_X509_EXTENSION_num(list), 2);
    made = sk_X509_EXTENSION_value(list, 1);
    assert_int_equal(OBJ_obj2nid(X509_EXTENSION_get_object(made)), NID_tlsfeature);
    assert_int_equal(X509_EXTENSION_get_critical(made), 0);
    assert_int_equal(ASN1_STRING_length(X509_EXTENSION_get_data(made)), 5);
    assert_memory_equal(ASN1_STRING_get0_data(X509_EXTENSION_get_data(made)),
                        "\x30\x03\x02\x01\x05", 5);
    sk_X509_EXTENSION_pop_free(list, X509_EXTENSION_free);
    X509_REQ_free(req);

    /* Its own SAN (a.example) replaces ours. */
    assert_null(crypto_csr_extension_parse(apr_array_push(array), "2.5.29.17,critical",
                                           "300b8209612e6578616D706C65", pool));
    req = make_request(CRYPTO_KEY_P256, "example.org", array);
    assert_string_equal(only_san(req), "a.example");
    list = X509_REQ_get_extensions(req);
    assert_int_equal(sk_X509_EXTENSION_num(list), 2);
    assert_int_equal(X509_EXTENSION_get_critical(sk_X509_EXTENSION_value(list, 1)), 1);
    sk_X509_EXTENSION_pop_free(list, X509_EXTENSION_free);
    X509_REQ_free(req);
}

static void test_parse_refuses(void **state)
{
    static const struct {
        const char *oid, *hex, *says;
    } rows[] = {
        { "tlsfeature", "3003020105", "object identifier" },
        { "", "3003020105", "object identifier" },
        { ",critical", "3003020105", "object identifier" },
        { "1", "3003020105", "object identifier" },
        { "9.9", "3003020105", "object identifier" },
        { "1.2.3,Critical", "3003020105", "object identifier" },
        { "1.2.3", "300302010", "even" },
        { "1.2.3", "", "even" },
        { "1.2.3", "30 3", "digits only" },
        { "1.2.3", "0x05", "digits only" },
        { "1.2.3", "3g", "digits only" },
    };
    crypto_csr_extension_t ext;
    char *big = apr_palloc(pool, 8195);
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const char *why = crypto_csr_extension_parse(&ext, rows[i].oid, rows[i].hex, pool);

        assert_non_null(why);
        assert_non_null(strstr(why, rows[i].says));
    }
    memset(big, '0', 8194);
    big[8194] = '\0';
    assert_non_null(crypto_csr_extension_parse(&ext, "1.2.3", big, pool));
    big[8192] = '\0';
    assert_null(crypto_csr_extension_parse(&ext, "1.2.3,critical", big, pool));
    assert_string_equal(ext.oid, "1.2.3");
    assert_int_equal(ext.critical, 1);
    assert_int_equal(ext.len, 4096);
    assert_int_equal(ERR_peek_error(), 0);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_plain),
    cmocka_unit_test(test_long_name),
    cmocka_unit_test(test_wildcard),
    cmocka_unit_test(test_address),
    cmocka_unit_test(test_extensions),
    cmocka_unit_test(test_parse_refuses),
};

int main(void)
{
    return RUN_TESTS_WITH_POOL(tests, pool);
}
