/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "crypto/placeholder.h"

#include <openssl/err.h>
#include <openssl/pem.h>

#include "crypto/cert.h"
#include "crypto/key.h"
#include "crypto/pem.h"

#define BACKDATE apr_time_from_sec(24 * 3600)
#define LIFETIME apr_time_from_sec(3652LL * 24 * 3600)  /* ten years */

/* The subject says what it is to whoever opens it in a browser. */
static const char CA_NAME[] = "mod_autocert placeholder";

static X509 *make_ca(EVP_PKEY *key, apr_time_t now)
{
    crypto_cert_params_t params = {
        .key = key,
        .cn = CA_NAME,
        .not_before = now - BACKDATE,
        .not_after = now + LIFETIME,
    };
    X509 *ca = crypto_cert_new(&params);

    if (ca && crypto_cert_extend(ca, ca, NID_basic_constraints, "critical,CA:TRUE")
        && crypto_cert_extend(ca, ca, NID_key_usage, "critical,keyCertSign,cRLSign")
        && crypto_cert_extend(ca, ca, NID_subject_key_identifier, "hash")
        && X509_sign(ca, key, EVP_sha256()))
        return ca;
    X509_free(ca);
    return NULL;
}

static X509 *make_leaf(EVP_PKEY *key, X509 *ca, EVP_PKEY *ca_key,
                       const apr_array_header_t *names, apr_time_t now)
{
    crypto_cert_params_t params = {
        .key = key,
        .cn = APR_ARRAY_IDX(names, 0, const char *),
        .issuer = ca,
        .not_before = now - BACKDATE,
        .not_after = now + LIFETIME,
    };
    X509 *leaf = crypto_cert_new(&params);

    /* The key identifiers tie the leaf to the CA of its own file: every placeholder's
     * CA has the same name. */
    if (leaf && crypto_cert_extend(leaf, ca, NID_basic_constraints, "critical,CA:FALSE")
        && crypto_cert_extend(leaf, ca, NID_key_usage, "critical,digitalSignature")
        && crypto_cert_extend(leaf, ca, NID_ext_key_usage, "serverAuth")
        && crypto_cert_extend(leaf, ca, NID_subject_key_identifier, "hash")
        && crypto_cert_extend(leaf, ca, NID_authority_key_identifier, "keyid:always")
        && crypto_cert_add_san(leaf, (const char *const *)(const void *)names->elts, names->nelts)
        && X509_sign(leaf, ca_key, EVP_sha256()))
        return leaf;
    X509_free(leaf);
    return NULL;
}

apr_status_t crypto_placeholder_make(char **pem, apr_size_t *len, const apr_array_header_t *names,
                                     apr_time_t now, apr_pool_t *pool, base_error_t *err)
{
    EVP_PKEY *key = NULL, *ca_key = NULL;
    X509 *ca = NULL, *leaf = NULL;
    BIO *bio = NULL;
    apr_status_t status;

    if (names->nelts < 1)
        return base_error_set(err, BASE_ERROR_LOCAL, APR_EINVAL,
                              "a placeholder certificate needs a name");
    if ((status = crypto_key_generate(&key, CRYPTO_KEY_P256, err)) != APR_SUCCESS
        || (status = crypto_key_generate(&ca_key, CRYPTO_KEY_P256, err)) != APR_SUCCESS)
        goto out;
    if ((ca = make_ca(ca_key, now)) == NULL
        || (leaf = make_leaf(key, ca, ca_key, names, now)) == NULL
        || (bio = BIO_new(BIO_s_mem())) == NULL) {
        status = base_error_set_openssl(err, "cannot make a placeholder certificate");
        goto out;
    }
    status = crypto_key_write_bio(bio, key, err);
    if (status != APR_SUCCESS)
        goto out;
    if (!PEM_write_bio_X509(bio, leaf) || !PEM_write_bio_X509(bio, ca))
        status = base_error_set_openssl(err, "cannot write a placeholder certificate");
    else
        status = crypto_pem_copy(pem, len, bio, pool, err);
out:
    BIO_free(bio);
    X509_free(leaf);
    X509_free(ca);
    EVP_PKEY_free(key);
    EVP_PKEY_free(ca_key);
    return status;
}
