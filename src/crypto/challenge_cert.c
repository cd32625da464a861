/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "crypto/challenge_cert.h"

#include <string.h>

#include <openssl/err.h>
#include <openssl/sha.h>

#include "crypto/cert.h"

#define BACKDATE apr_time_from_sec(3600)        /* the validator's clock may be behind */
#define LIFETIME apr_time_from_sec(24 * 3600)

/* id-pe-acmeIdentifier, RFC 8737 section 3. OpenSSL 3.0 has no NID for it, and
 * OBJ_create() would change a table of the whole process. */
static const char IDENTIFIER_OID[] = "1.3.6.1.5.5.7.1.31";

#define DER_SIZE (2 + SHA256_DIGEST_LENGTH)

/* The extension's content: an OCTET STRING with the digest. */
static int make_identifier(unsigned char der[DER_SIZE], const char *key_authorization)
{
    der[0] = V_ASN1_OCTET_STRING;
    der[1] = SHA256_DIGEST_LENGTH;
    return EVP_Digest(key_authorization, strlen(key_authorization), der + 2, NULL, EVP_sha256(), NULL);
}

/* The critical extension, whose content stands as DER in its own OCTET STRING. */
static int add_identifier(X509 *cert, const char *key_authorization)
{
    unsigned char der[DER_SIZE];
    ASN1_OBJECT *oid = OBJ_txt2obj(IDENTIFIER_OID, 1);
    ASN1_OCTET_STRING *value = ASN1_OCTET_STRING_new();
    X509_EXTENSION *ext = NULL;
    int ok = 0;

    if (oid && value
        && make_identifier(der, key_authorization)
        && ASN1_OCTET_STRING_set(value, der, sizeof(der))
        && (ext = X509_EXTENSION_create_by_OBJ(NULL, oid, 1, value)) != NULL)
        ok = X509_add_ext(cert, ext, -1);
    X509_EXTENSION_free(ext);
    ASN1_OCTET_STRING_free(value);
    ASN1_OBJECT_free(oid);
    return ok;
}

apr_status_t crypto_challenge_cert_make(crypto_bundle_t **bundle, const char *name,
                                        const char *key_authorization, apr_time_t now,
                                        base_error_t *err)
{
    crypto_cert_params_t params = {
        .cn = name,
        .serial = 1,
        .not_before = now - BACKDATE,
        .not_after = now + LIFETIME,
    };
    EVP_PKEY *key = NULL;
    X509 *cert = NULL;
    apr_status_t status = crypto_key_generate(&key, CRYPTO_KEY_P256, err);

    if (status != APR_SUCCESS)
        return status;
    params.key = key;
    cert = crypto_cert_new(&params);
    /* The validator compares the SAN byte by byte: this one name, nothing else. */
    if (!cert || !crypto_cert_extend(cert, cert, NID_basic_constraints, "critical,CA:FALSE")
        || !crypto_cert_extend(cert, cert, NID_key_usage, "critical,digitalSignature")
        || !crypto_cert_extend(cert, cert, NID_ext_key_usage, "serverAuth")
        || !crypto_cert_add_san(cert, &name, 1) || !add_identifier(cert, key_authorization)
        || !X509_sign(cert, key, EVP_sha256()))
        status = base_error_set_openssl(err, "cannot make a challenge certificate");
    else
        status = crypto_bundle_make(bundle, key, cert, NULL, err);
    if (status != APR_SUCCESS)
        X509_free(cert);
    EVP_PKEY_free(key);
    return status;
}

int crypto_challenge_cert_is(const X509 *cert)
{
    ASN1_OBJECT *oid = OBJ_txt2obj(IDENTIFIER_OID, 1);
    /* Without memory for the question the careful answer is yes. */
    int is = !oid || X509_get_ext_by_OBJ(cert, oid, -1) >= 0;

    ASN1_OBJECT_free(oid);
    return is;
}

int crypto_challenge_cert_answers(const X509 *cert, const char *key_authorization)
{
    unsigned char der[DER_SIZE];
    ASN1_OBJECT *oid = OBJ_txt2obj(IDENTIFIER_OID, 1);
    int at = oid ? X509_get_ext_by_OBJ(cert, oid, -1) : -1;
    X509_EXTENSION *ext = at >= 0 ? X509_get_ext(cert, at) : NULL;
    const ASN1_OCTET_STRING *value = ext ? X509_EXTENSION_get_data(ext) : NULL;
    int answers = value && X509_EXTENSION_get_critical(ext) && make_identifier(der, key_authorization)
                  && ASN1_STRING_length(value) == DER_SIZE
                  && memcmp(ASN1_STRING_get0_data(value), der, DER_SIZE) == 0;

    ASN1_OBJECT_free(oid);
    return answers;
}
