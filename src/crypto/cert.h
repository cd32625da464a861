/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file crypto/cert.h
 * The parts that requests and the certificates we sign ourselves are made of.
 * Any thread; nothing blocks. All leave OpenSSL's error queue filled when they fail.
 */
#ifndef CRYPTO_CERT_H
#define CRYPTO_CERT_H

#include <apr_pools.h>
#include <apr_time.h>
#include <openssl/x509v3.h>

#define CRYPTO_CERT_CN_MAX 64   /* ub-common-name of RFC 5280 appendix A.1 */

typedef struct crypto_cert_params_t {
    EVP_PKEY *key;              /* its public half goes in */
    const char *cn;             /* left out when NULL or too long for one */
    const X509 *issuer;         /* NULL: issuer = subject */
    unsigned int serial;        /* 0: 159 random bits (RFC 5280 section 4.1.2.2) */
    apr_time_t not_before;
    apr_time_t not_after;
} crypto_cert_params_t;

/** A version 3 certificate without extensions and signature. NULL when it fails. */
X509 *crypto_cert_new(const crypto_cert_params_t *params);

/** Add an extension, value in the notation of OpenSSL's configuration files (never
 * made of foreign text). @return non-zero when it worked */
int crypto_cert_extend(X509 *cert, X509 *issuer, int nid, const char *value);

/** subjectAltName of count names: addresses as iPAddress, others as dNSName,
 * their bytes as they are. NULL when it fails; X509_EXTENSION_free() it. */
X509_EXTENSION *crypto_cert_san(const char *const *names, int count, int critical);

/** Add that extension, critical when the subject is empty (RFC 5280 section 4.2.1.6).
 * @return non-zero when it worked */
int crypto_cert_add_san(X509 *cert, const char *const *names, int count);

/** The identifier that renewal information is asked by (RFC 9773 section 4.1): base64url of the authority
 * key identifier's keyIdentifier, a dot, base64url of the serial number's DER content. In the pool; NULL
 * when the certificate has no such key identifier. */
const char *crypto_cert_renewal_id(const X509 *cert, apr_pool_t *pool);

/** Set the CN when the name fits one. @return zero when it fails */
int crypto_cert_set_cn(X509_NAME *subject, const char *cn);

#endif
