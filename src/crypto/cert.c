/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "crypto/cert.h"

#include <string.h>

#include <apr_strings.h>
#include <openssl/bn.h>

#include "base/base64url.h"
#include "base/identifier.h"

#define SERIAL_BITS 159     /* positive within 20 octets */

int crypto_cert_set_cn(X509_NAME *subject, const char *cn)
{
    if (!cn || !*cn || strlen(cn) > CRYPTO_CERT_CN_MAX)
        return 1;
    /* "ASC" takes any byte, so it cannot fail on a name that is not UTF-8. */
    return X509_NAME_add_entry_by_NID(subject, NID_commonName, MBSTRING_ASC,
                                      (const unsigned char *)cn, -1, -1, 0);
}

static int set_serial(X509 *cert, unsigned int serial)
{
    BIGNUM *number = NULL;
    int ok;

    if (serial)
        return ASN1_INTEGER_set(X509_get_serialNumber(cert), (long)serial);
    number = BN_new();
    ok = number && BN_rand(number, SERIAL_BITS, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY)
         && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(cert));
    BN_free(number);
    return ok;
}

X509 *crypto_cert_new(const crypto_cert_params_t *params)
{
    X509 *cert = X509_new();
    X509_NAME *subject = X509_NAME_new();
    int ok = cert && subject
             && X509_set_version(cert, 2)   /* says v3 */
             && set_serial(cert, params->serial)
             && crypto_cert_set_cn(subject, params->cn)
             && X509_set_subject_name(cert, subject)
             && X509_set_issuer_name(cert, params->issuer
                                           ? X509_get_subject_name(params->issuer) : subject)
             && ASN1_TIME_set(X509_getm_notBefore(cert),
                              (time_t)apr_time_sec(params->not_before))
             && ASN1_TIME_set(X509_getm_notAfter(cert),
                              (time_t)apr_time_sec(params->not_after))
             && X509_set_pubkey(cert, params->key);

    X509_NAME_free(subject);
    if (!ok) {
        X509_free(cert);
        return NULL;
    }
    return cert;
}

int crypto_cert_extend(X509 *cert, X509 *issuer, int nid, const char *value)
{
    X509_EXTENSION *ext = NULL;
    X509V3_CTX ctx;
    int ok;

    X509V3_set_ctx_nodb(&ctx);
    X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
    ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    ok = ext && X509_add_ext(cert, ext, -1);
    X509_EXTENSION_free(ext);
    return ok;
}

static GENERAL_NAME *make_general_name(const char *name)
{
    GENERAL_NAME *general = GENERAL_NAME_new();
    ASN1_STRING *value = NULL;
    unsigned char address[16];
    int len = base_identifier_address(name, address);

    value = ASN1_STRING_type_new(len ? V_ASN1_OCTET_STRING : V_ASN1_IA5STRING);
    if (!general || !value
        || !ASN1_STRING_set(value, len ? (const void *)address : name, len ? len : -1)) {
        GENERAL_NAME_free(general);
        ASN1_STRING_free(value);
        return NULL;
    }
    GENERAL_NAME_set0_value(general, len ? GEN_IPADD : GEN_DNS, value);
    return general;
}

X509_EXTENSION *crypto_cert_san(const char *const *names, int count, int critical)
{
    GENERAL_NAMES *list = GENERAL_NAMES_new();
    X509_EXTENSION *ext = NULL;
    int i;

    for (i = 0; list && i < count; i++) {
        GENERAL_NAME *general = make_general_name(names[i]);

        if (!general || !sk_GENERAL_NAME_push(list, general)) {
            GENERAL_NAME_free(general);
            GENERAL_NAMES_free(list);
            return NULL;
        }
    }
    if (list)
        ext = X509V3_EXT_i2d(NID_subject_alt_name, critical, list);
    GENERAL_NAMES_free(list);
    return ext;
}

int crypto_cert_add_san(X509 *cert, const char *const *names, int count)
{
    int has_subject = X509_NAME_entry_count(X509_get_subject_name(cert)) > 0;
    X509_EXTENSION *ext = crypto_cert_san(names, count, !has_subject);
    int ok = ext && X509_add_ext(cert, ext, -1);

    X509_EXTENSION_free(ext);
    return ok;
}

const char *crypto_cert_renewal_id(const X509 *cert, apr_pool_t *pool)
{
    const ASN1_OCTET_STRING *authority = X509_get0_authority_key_id((X509 *)cert);
    unsigned char *der = NULL;
    const unsigned char *content;
    long size = 0;
    int len, tag, class;
    const char *id = NULL;

    if (!authority || ASN1_STRING_length(authority) <= 0)
        return NULL;
    /* The number's own bytes lack the zero that keeps it positive; its DER has it. */
    len = i2d_ASN1_INTEGER((ASN1_INTEGER *)X509_get0_serialNumber(cert), &der);
    content = der;
    if (len > 0 && !(ASN1_get_object(&content, &size, &tag, &class, len) & 0x80) && size > 0)
        id = apr_pstrcat(pool, base_base64url_encode(ASN1_STRING_get0_data(authority),
                                                     (apr_size_t)ASN1_STRING_length(authority), pool),
                         ".", base_base64url_encode(content, (apr_size_t)size, pool), NULL);
    OPENSSL_free(der);
    return id;
}
