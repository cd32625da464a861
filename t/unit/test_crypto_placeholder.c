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
#include <openssl/x509v3.h>

#include "crypto/bundle.h"
#include "crypto/placeholder.h"
#include "run.h"

static apr_pool_t *pool;
static const apr_time_t NOW = APR_TIME_C(1800000000) * APR_USEC_PER_SEC;

static crypto_bundle_t *make(const char *const *names)
{
    apr_array_header_t *array = apr_array_make(pool, 4, sizeof(const char *));
    crypto_bundle_t *bundle = NULL;
    char *pem = NULL;
    apr_size_t len = 0;

    while (*names)
        APR_ARRAY_PUSH(array, const char *) = *names++;
    assert_int_equal(crypto_placeholder_make(&pem, &len, array, NOW, pool, NULL), APR_SUCCESS);
    assert_int_equal(strncmp(pem, "-----BEGIN EC PRIVATE KEY-----\n", 31), 0);
    assert_null(strstr(pem, "PARAMETERS"));
    assert_int_equal(crypto_bundle_parse(&bundle, pem, len, NULL), APR_SUCCESS);
    return bundle;
}

static void test_pair(void **state)
{
    static const char *const names[] = { "www.example.org", "example.org", NULL };
    crypto_bundle_t *bundle = make(names), *other = make(names);
    X509 *leaf = bundle->leaf, *ca = sk_X509_value(bundle->chain, 0);
    X509_NAME *subject = X509_get_subject_name(leaf);
    char cn[80];

    (void)state;
    assert_int_equal(sk_X509_num(bundle->chain), 1);
    assert_int_equal(crypto_bundle_check(bundle, "example.org", 0, NOW, NULL), APR_SUCCESS);
    assert_int_equal(crypto_bundle_check(bundle, "www.example.org", 0, NOW, NULL), APR_SUCCESS);
    X509_NAME_get_text_by_NID(subject, NID_commonName, cn, sizeof(cn));
    assert_string_equal(cn, "www.example.org");
    X509_NAME_get_text_by_NID(X509_get_subject_name(ca), NID_commonName, cn, sizeof(cn));
    assert_string_equal(cn, "mod_autocert placeholder");

    assert_int_equal(X509_check_issued(ca, leaf), X509_V_OK);
    assert_int_equal(X509_verify(leaf, X509_get0_pubkey(ca)), 1);
    assert_int_equal(X509_verify(ca, X509_get0_pubkey(ca)), 1);
    assert_int_equal(X509_check_ca(ca), 1);
    assert_int_equal(X509_check_ca(leaf), 0);
    assert_true(X509_get_extension_flags(leaf) & EXFLAG_BCONS);
    assert_int_equal(X509_check_purpose(leaf, X509_PURPOSE_SSL_SERVER, 0), 1);
    assert_int_equal(X509_get_key_usage(leaf), KU_DIGITAL_SIGNATURE);
    assert_int_equal(X509_get_extended_key_usage(leaf), XKU_SSL_SERVER);
    assert_int_equal(ASN1_OCTET_STRING_cmp(X509_get0_authority_key_id(leaf),
                                           X509_get0_subject_key_id(ca)), 0);
    assert_true(bundle->not_before == NOW - apr_time_from_sec(86400));
    assert_true(bundle->not_after > NOW + apr_time_from_sec(3650LL * 86400));
    /* New each time, and the CA's key is another than the leaf's. */
    assert_int_not_equal(ASN1_INTEGER_cmp(X509_get0_serialNumber(leaf),
                                          X509_get0_serialNumber(other->leaf)), 0);
    assert_int_not_equal(X509_check_private_key(ca, bundle->key), 1);
    assert_int_not_equal(X509_check_private_key(other->leaf, bundle->key), 1);
    crypto_bundle_free(bundle);
    crypto_bundle_free(other);
}

static void test_odd_names(void **state)
{
    static const char *const names[] = {
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.example.org",   /* 65 */
        "localhost", "a_b.example.org", "192.0.2.7", "2001:db8::7", "a,DNS:b", "\xff", NULL
    };
    crypto_bundle_t *bundle = make(names);
    GENERAL_NAMES *san = X509_get_ext_d2i(bundle->leaf, NID_subject_alt_name, NULL, NULL);
    int i;

    (void)state;
    assert_int_equal(X509_NAME_entry_count(X509_get_subject_name(bundle->leaf)), 0);
    assert_int_equal(sk_GENERAL_NAME_num(san), 7);
    for (i = 0; i < 7; i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(san, i);

        if (i == 3 || i == 4) {
            assert_int_equal(name->type, GEN_IPADD);
            continue;
        }
        assert_int_equal(name->type, GEN_DNS);
        assert_int_equal(ASN1_STRING_length(name->d.dNSName), strlen(names[i]));
        assert_memory_equal(ASN1_STRING_get0_data(name->d.dNSName), names[i], strlen(names[i]));
    }
    assert_int_equal(X509_check_ip_asc(bundle->leaf, "192.0.2.7", 0), 1);
    assert_int_equal(X509_check_ip_asc(bundle->leaf, "2001:db8::7", 0), 1);
    assert_true(crypto_bundle_covers(bundle->leaf, "localhost"));
    GENERAL_NAMES_free(san);
    crypto_bundle_free(bundle);
}

/* mod_ssl warns unless the name of the vhost is a dNSName or the CN. */
static void test_identifiers(void **state)
{
    static const char *const names[] = { "2001:db8::7", "*.example.org", "www.example.org", "192.0.2.7",
                                        NULL };
    crypto_bundle_t *bundle = make(names);
    GENERAL_NAMES *san = X509_get_ext_d2i(bundle->leaf, NID_subject_alt_name, NULL, NULL);
    char cn[80];
    int i;

    (void)state;
    assert_int_equal(sk_GENERAL_NAME_num(san), 4);
    for (i = 0; i < 4; i++) {
        assert_int_equal(sk_GENERAL_NAME_value(san, i)->type, i == 0 || i == 3 ? GEN_IPADD : GEN_DNS);
        assert_int_equal(crypto_bundle_check(bundle, names[i], 0, NOW, NULL), APR_SUCCESS);
    }
    X509_NAME_get_text_by_NID(X509_get_subject_name(bundle->leaf), NID_commonName, cn, sizeof(cn));
    assert_string_equal(cn, "2001:db8::7");
    GENERAL_NAMES_free(san);
    crypto_bundle_free(bundle);
}

static void test_no_name(void **state)
{
    base_error_t err;
    char *pem = NULL;
    apr_size_t len = 0;

    (void)state;
    assert_int_not_equal(crypto_placeholder_make(&pem, &len,
                                                 apr_array_make(pool, 1, sizeof(const char *)),
                                                 NOW, pool, &err), APR_SUCCESS);
    assert_int_equal(err.kind, BASE_ERROR_LOCAL);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_pair),
    cmocka_unit_test(test_odd_names),
    cmocka_unit_test(test_identifiers),
    cmocka_unit_test(test_no_name),
};

int main(void)
{
    return RUN_TESTS_WITH_POOL(tests, pool);
}
