/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file pairs.h
 * Keys, certificates and cache files of tests. pairs_begin() first, pairs_end() last.
 */
#ifndef PAIRS_H
#define PAIRS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <apr_time.h>
#include <cmocka.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>

#define PAIRS_SAN_SIZE 300

static EVP_PKEY *leaf_key, *rsa_key, *ca_key;
static X509 *ca_cert;
static long next_serial = 1;

static inline EVP_PKEY *make_key(int type)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_id(type, NULL);
    EVP_PKEY *key = NULL;

    assert_non_null(ctx);
    assert_int_equal(EVP_PKEY_keygen_init(ctx), 1);
    if (type == EVP_PKEY_EC) {
        assert_int_equal(EVP_PKEY_CTX_set_ec_paramgen_curve_nid(ctx, NID_X9_62_prime256v1), 1);
    } else {
        assert_int_equal(EVP_PKEY_CTX_set_rsa_keygen_bits(ctx, 2048), 1);
    }
    assert_int_equal(EVP_PKEY_keygen(ctx, &key), 1);
    EVP_PKEY_CTX_free(ctx);
    return key;
}

static inline X509 *make_cert(const char *name, EVP_PKEY *key, apr_time_t from, apr_time_t to)
{
    X509 *cert = X509_new();
    X509_NAME *subject = X509_NAME_new();
    X509_EXTENSION *ext;
    char san[PAIRS_SAN_SIZE];

    X509_set_version(cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), next_serial++);
    ASN1_TIME_set(X509_getm_notBefore(cert), (time_t)apr_time_sec(from));
    ASN1_TIME_set(X509_getm_notAfter(cert), (time_t)apr_time_sec(to));
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)"x", 1, -1, 0);
    X509_set_subject_name(cert, subject);
    X509_set_issuer_name(cert, subject);
    X509_NAME_free(subject);
    X509_set_pubkey(cert, key);
    snprintf(san, sizeof(san), "DNS:%s", name);
    ext = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, san);
    assert_non_null(ext);
    X509_add_ext(cert, ext, -1);
    X509_EXTENSION_free(ext);
    assert_true(X509_sign(cert, ca_key, EVP_sha256()) > 0);
    return cert;
}

/* The text of a cache file, malloc'd. */
static inline char *make_pem(const char *name, EVP_PKEY *key, apr_time_t from, apr_time_t to)
{
    X509 *cert = make_cert(name, key, from, to);
    BIO *out = BIO_new(BIO_s_mem());
    char *data, *pem;
    long len;

    assert_int_equal(PEM_write_bio_PrivateKey_traditional(out, key, NULL, NULL, 0, NULL, NULL), 1);
    assert_int_equal(PEM_write_bio_X509(out, cert), 1);
    assert_int_equal(PEM_write_bio_X509(out, ca_cert), 1);
    len = BIO_get_mem_data(out, &data);
    pem = calloc(1, (size_t)len + 1);
    memcpy(pem, data, (size_t)len);
    BIO_free(out);
    X509_free(cert);
    return pem;
}

/** Make the keys and the CA. */
static inline void pairs_begin(apr_time_t from, apr_time_t to)
{
    leaf_key = make_key(EVP_PKEY_EC);
    rsa_key = make_key(EVP_PKEY_RSA);
    ca_key = make_key(EVP_PKEY_EC);
    ca_cert = make_cert("ca.example.org", ca_key, from, to);
}

static inline void pairs_end(void)
{
    X509_free(ca_cert);
    EVP_PKEY_free(ca_key);
    EVP_PKEY_free(rsa_key);
    EVP_PKEY_free(leaf_key);
}

#endif
