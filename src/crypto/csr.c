/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "crypto/csr.h"

#include <string.h>

#include <apr_strings.h>
#include <openssl/err.h>

#include "base/identifier.h"
#include "crypto/cert.h"

#define OID_TEXT_MAX 128            /* octets of a dotted OID */
#define EXTENSION_VALUE_MAX 4096    /* octets */

static const char SAN_OID[] = "2.5.29.17";
static const char CRITICAL[] = ",critical";

/* By X.660: two numbers at least, the first at most 2, no leading zeros. */
static int is_oid(const char *oid)
{
    ASN1_OBJECT *object;

    if (strlen(oid) > OID_TEXT_MAX || strspn(oid, "0123456789.") != strlen(oid)
        || !strchr(oid, '.'))
        return 0;
    object = OBJ_txt2obj(oid, 1);
    ERR_clear_error();
    ASN1_OBJECT_free(object);
    return object != NULL;
}

static int read_digit(char c)
{
    static const char digits[] = "0123456789abcdef";
    const char *at = c ? strchr(digits, c >= 'A' && c <= 'F' ? c - 'A' + 'a' : c) : NULL;

    return at ? (int)(at - digits) : -1;
}

const char *crypto_csr_extension_parse(crypto_csr_extension_t *ext, const char *oid,
                                       const char *hex, apr_pool_t *pool)
{
    apr_size_t hex_len = strlen(hex), oid_len = strlen(oid), i;
    apr_size_t mark = sizeof(CRITICAL) - 1;
    int critical = oid_len > mark && strcmp(oid + oid_len - mark, CRITICAL) == 0;
    unsigned char *value;

    if (critical)
        oid = apr_pstrmemdup(pool, oid, oid_len - mark);
    if (!is_oid(oid))
        return "the first argument must be an object identifier like 1.3.6.1.5.5.7.1.24, "
               "with \",critical\" behind it if clients must understand the extension";
    if (hex_len == 0 || hex_len % 2 || hex_len / 2 > EXTENSION_VALUE_MAX)
        return "the second argument must be the DER of the extension's value as an even "
               "number of hexadecimal digits, at most 8192, like 3003020105";
    value = apr_palloc(pool, hex_len / 2);
    for (i = 0; i < hex_len / 2; i++) {
        int high = read_digit(hex[2 * i]), low = read_digit(hex[2 * i + 1]);

        if (high < 0 || low < 0)
            return "the second argument must consist of hexadecimal digits only, "
                   "like 3003020105";
        value[i] = (unsigned char)(high << 4 | low);
    }
    ext->oid = oid;
    ext->critical = critical;
    ext->value = value;
    ext->len = hex_len / 2;
    return NULL;
}

static X509_EXTENSION *make_extension(const crypto_csr_extension_t *from)
{
    ASN1_OBJECT *object = OBJ_txt2obj(from->oid, 1);
    ASN1_OCTET_STRING *value = ASN1_OCTET_STRING_new();
    X509_EXTENSION *ext = NULL;

    if (object && value && ASN1_OCTET_STRING_set(value, from->value, (int)from->len))
        ext = X509_EXTENSION_create_by_OBJ(NULL, object, from->critical, value);
    ASN1_OBJECT_free(object);
    ASN1_OCTET_STRING_free(value);
    return ext;
}

static int push_extension(STACK_OF(X509_EXTENSION) *list, X509_EXTENSION *ext)
{
    if (ext && sk_X509_EXTENSION_push(list, ext))
        return 1;
    X509_EXTENSION_free(ext);
    return 0;
}

static STACK_OF(X509_EXTENSION) *list_extensions(const char *name,
                                                 const apr_array_header_t *extensions)
{
    STACK_OF(X509_EXTENSION) *list = sk_X509_EXTENSION_new_null();
    int count = extensions ? extensions->nelts : 0;
    int own_san = 1, ok = list != NULL, i;

    for (i = 0; i < count; i++) {
        if (strcmp(APR_ARRAY_IDX(extensions, i, crypto_csr_extension_t).oid, SAN_OID) == 0)
            own_san = 0;
    }
    if (ok && own_san)
        ok = push_extension(list, crypto_cert_san(&name, 1, 0));
    for (i = 0; ok && i < count; i++)
        ok = push_extension(list, make_extension(&APR_ARRAY_IDX(extensions, i,
                                                                crypto_csr_extension_t)));
    if (!ok) {
        sk_X509_EXTENSION_pop_free(list, X509_EXTENSION_free);
        return NULL;
    }
    return list;
}

apr_status_t crypto_csr_der(unsigned char **der, apr_size_t *len, EVP_PKEY *key,
                            const char *name, const apr_array_header_t *extensions,
                            apr_pool_t *pool, base_error_t *err)
{
    STACK_OF(X509_EXTENSION) *list = list_extensions(name, extensions);
    /* A CN is a domain name for most CAs; the SAN alone says what an address is. */
    const char *cn = base_identifier_kind(name) == BASE_IDENTIFIER_IP ? NULL : name;
    X509_REQ *req = X509_REQ_new();
    unsigned char *made = NULL;
    apr_status_t status = APR_SUCCESS;
    int made_len = -1;

    if (list && req && X509_REQ_set_version(req, 0)     /* says v1, the only one */
        && crypto_cert_set_cn(X509_REQ_get_subject_name(req), cn)
        && X509_REQ_set_pubkey(req, key) && X509_REQ_add_extensions(req, list)
        && X509_REQ_sign(req, key, EVP_sha256()) > 0)
        made_len = i2d_X509_REQ(req, &made);
    if (made_len <= 0) {
        status = base_error_set_openssl(err, "cannot make a certificate signing request");
    }
    else {
        *der = apr_pmemdup(pool, made, (apr_size_t)made_len);
        *len = (apr_size_t)made_len;
    }
    OPENSSL_free(made);
    X509_REQ_free(req);
    sk_X509_EXTENSION_pop_free(list, X509_EXTENSION_free);
    return status;
}
