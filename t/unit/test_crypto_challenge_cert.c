/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <openssl/x509v3.h>

#include "crypto/challenge_cert.h"

/* RFC 8555 section 8.1 with the key of RFC 7515 appendix A.3. */
static const char KEY_AUTHORIZATION[] =
    "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA.oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U";

static const apr_time_t NOW = APR_TIME_C(1800000000) * APR_USEC_PER_SEC;

static crypto_bundle_t *make(const char *name)
{
    crypto_bundle_t *bundle = NULL;

    assert_int_equal(crypto_challenge_cert_make(&bundle, name, KEY_AUTHORIZATION, NOW, NULL),
                     APR_SUCCESS);
    return bundle;
}

/* The complete DER of the extension, as RFC 8737 section 3 defines it. */
static void test_identifier(void **state)
{
    static const unsigned char wanted[] = {
        0x30, 0x31, 0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x01, 0x1f, 0x01, 0x01, 0xff,
        0x04, 0x22, 0x04, 0x20, 0x65, 0xa2, 0x60, 0x16, 0xd2, 0x15, 0xe1, 0x60, 0x34, 0xb7, 0x63,
        0x33, 0x37, 0xb9, 0x1b, 0x4a, 0x4d, 0x2c, 0x7d, 0x17, 0x76, 0x19, 0x98, 0xda, 0xc5, 0x1a,
        0x9a, 0x49, 0x30, 0x0a, 0xea, 0x52,
    };
    crypto_bundle_t *bundle = make("example.org");
    ASN1_OBJECT *oid = OBJ_txt2obj("1.3.6.1.5.5.7.1.31", 1);
    int at = X509_get_ext_by_OBJ(bundle->leaf, oid, -1);
    unsigned char *der = NULL;

    (void)state;
    assert_true(at >= 0);
    assert_int_equal(X509_get_ext_by_OBJ(bundle->leaf, oid, at), -1);
    assert_int_equal(i2d_X509_EXTENSION(X509_get_ext(bundle->leaf, at), &der), sizeof(wanted));
    assert_memory_equal(der, wanted, sizeof(wanted));
    assert_true(crypto_challenge_cert_is(bundle->leaf));
    X509_EXTENSION_free(X509_delete_ext(bundle->leaf, at));
    assert_false(crypto_challenge_cert_is(bundle->leaf));
    OPENSSL_free(der);
    ASN1_OBJECT_free(oid);
    crypto_bundle_free(bundle);
}

static void test_certificate(void **state)
{
    crypto_bundle_t *bundle = make("example.org");
    GENERAL_NAMES *names = X509_get_ext_d2i(bundle->leaf, NID_subject_alt_name, NULL, NULL);
    char cn[80];

    (void)state;
    assert_int_equal(sk_X509_num(bundle->chain), 0);
    assert_int_equal(X509_get_version(bundle->leaf), 2);
    assert_int_equal(ASN1_INTEGER_get(X509_get0_serialNumber(bundle->leaf)), 1);
    assert_int_equal(X509_NAME_cmp(X509_get_subject_name(bundle->leaf),
                                   X509_get_issuer_name(bundle->leaf)), 0);
    X509_NAME_get_text_by_NID(X509_get_subject_name(bundle->leaf), NID_commonName, cn,
                              sizeof(cn));
    assert_string_equal(cn, "example.org");
    assert_int_equal(X509_verify(bundle->leaf, bundle->key), 1);
    assert_true(crypto_key_is(bundle->key, CRYPTO_KEY_P256));
    assert_int_equal(sk_GENERAL_NAME_num(names), 1);
    assert_int_equal(sk_GENERAL_NAME_value(names, 0)->type, GEN_DNS);
    assert_int_equal(crypto_bundle_check(bundle, "example.org", 0, NOW, NULL), APR_SUCCESS);
    assert_true(bundle->not_before == NOW - apr_time_from_sec(3600));
    assert_true(bundle->not_after == NOW + apr_time_from_sec(24 * 3600));
    GENERAL_NAMES_free(names);
    crypto_bundle_free(bundle);
}

static void test_long_name(void **state)
{
    static const char name[] =
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.example.org";  /* 65 */
    crypto_bundle_t *bundle = make(name);
    int critical = 0;
    GENERAL_NAMES *names = X509_get_ext_d2i(bundle->leaf, NID_subject_alt_name, &critical, NULL);

    (void)state;
    assert_int_equal(X509_NAME_entry_count(X509_get_subject_name(bundle->leaf)), 0);
    assert_int_equal(critical, 1);
    assert_true(crypto_bundle_covers(bundle->leaf, name));
    GENERAL_NAMES_free(names);
    crypto_bundle_free(bundle);
}

static void test_address(void **state)
{
    crypto_bundle_t *bundle = make("2001:db8::1");
    GENERAL_NAMES *names = X509_get_ext_d2i(bundle->leaf, NID_subject_alt_name, NULL, NULL);

    (void)state;
    assert_int_equal(sk_GENERAL_NAME_num(names), 1);
    assert_int_equal(sk_GENERAL_NAME_value(names, 0)->type, GEN_IPADD);
    assert_true(crypto_bundle_covers(bundle->leaf, "2001:db8::1"));
    assert_true(crypto_challenge_cert_is(bundle->leaf));
    GENERAL_NAMES_free(names);
    crypto_bundle_free(bundle);
}

static void test_answers(void **state)
{
    crypto_bundle_t *bundle = make("example.org"), *plain = make("example.org");
    ASN1_OBJECT *oid = OBJ_txt2obj("1.3.6.1.5.5.7.1.31", 1);
    X509_EXTENSION *ext = X509_delete_ext(plain->leaf, X509_get_ext_by_OBJ(plain->leaf, oid, -1));
    ASN1_OCTET_STRING *longer;

    (void)state;
    assert_true(crypto_challenge_cert_answers(bundle->leaf, KEY_AUTHORIZATION));
    assert_false(crypto_challenge_cert_answers(bundle->leaf, KEY_AUTHORIZATION + 1));
    assert_false(crypto_challenge_cert_answers(plain->leaf, KEY_AUTHORIZATION));
    /* not critical, or not all of the digest */
    X509_EXTENSION_set_critical(ext, 0);
    X509_add_ext(plain->leaf, ext, -1);
    assert_false(crypto_challenge_cert_answers(plain->leaf, KEY_AUTHORIZATION));
    X509_EXTENSION_free(X509_delete_ext(plain->leaf, X509_get_ext_by_OBJ(plain->leaf, oid, -1)));
    X509_EXTENSION_set_critical(ext, 1);
    longer = ASN1_STRING_dup(X509_EXTENSION_get_data(ext));
    ASN1_OCTET_STRING_set(longer, ASN1_STRING_get0_data(longer), 33);
    X509_EXTENSION_set_data(ext, longer);
    X509_add_ext(plain->leaf, ext, -1);
    assert_false(crypto_challenge_cert_answers(plain->leaf, KEY_AUTHORIZATION));
    ASN1_OCTET_STRING_free(longer);
    X509_EXTENSION_free(ext);
    ASN1_OBJECT_free(oid);
    crypto_bundle_free(bundle);
    crypto_bundle_free(plain);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_identifier),
        cmocka_unit_test(test_certificate),
        cmocka_unit_test(test_long_name),
        cmocka_unit_test(test_address),
        cmocka_unit_test(test_answers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
