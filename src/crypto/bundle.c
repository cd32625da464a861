/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "crypto/bundle.h"

#include <string.h>
#include <strings.h>
#include <time.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "base/identifier.h"
#include "crypto/pem.h"

#define CLOCK_SKEW_MAX apr_time_from_sec(3600)  /* how far ahead a CA's clock may be */

void crypto_bundle_free(crypto_bundle_t *bundle)
{
    if (!bundle)
        return;
    EVP_PKEY_free(bundle->key);
    X509_free(bundle->leaf);
    sk_X509_pop_free(bundle->chain, X509_free);
    OPENSSL_free(bundle);
}

apr_time_t crypto_bundle_asn1_time(const ASN1_TIME *t)
{
    struct tm tm;

    /* OpenSSL takes NULL for "now". */
    if (!t)
        return 0;
    memset(&tm, 0, sizeof(tm));
    if (!ASN1_TIME_to_tm(t, &tm)) {
        ERR_clear_error();
        return 0;
    }
    return apr_time_from_sec((apr_time_t)timegm(&tm));
}

/* X509_check_host() matches names with patterns, but no pattern with itself. */
static int has_dns_name(const X509 *leaf, const char *name)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(leaf, NID_subject_alt_name, NULL, NULL);
    int found = 0, i;

    for (i = 0; !found && i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *general = sk_GENERAL_NAME_value(names, i);
        size_t len = strlen(name);

        found = general->type == GEN_DNS && (size_t)ASN1_STRING_length(general->d.dNSName) == len
                && strncasecmp((const char *)ASN1_STRING_get0_data(general->d.dNSName), name, len) == 0;
    }
    GENERAL_NAMES_free(names);
    ERR_clear_error();
    return found;
}

int crypto_bundle_covers(const X509 *leaf, const char *name)
{
    unsigned char address[16];
    int len;

    /* X509_check_host() takes a leading dot for "any subdomain" and "" for "any". */
    if (!leaf || !name || !*name || *name == '.')
        return 0;
    if (base_identifier_kind(name) == BASE_IDENTIFIER_WILDCARD)
        return has_dns_name(leaf, name);
    if ((len = base_identifier_address(name, address)) > 0)
        return X509_check_ip((X509 *)leaf, address, (size_t)len, 0) == 1;
    return X509_check_host((X509 *)leaf, name, 0,
                           X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS
                           | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT, NULL) == 1;
}

apr_status_t crypto_bundle_make(crypto_bundle_t **bundle, EVP_PKEY *key, X509 *leaf,
                                STACK_OF(X509) *chain, base_error_t *err)
{
    apr_time_t not_before = crypto_bundle_asn1_time(X509_get0_notBefore(leaf));
    apr_time_t not_after = crypto_bundle_asn1_time(X509_get0_notAfter(leaf));
    STACK_OF(X509) *own = chain ? chain : sk_X509_new_null();
    crypto_bundle_t *made = OPENSSL_zalloc(sizeof(*made));

    if (!own || !made || !EVP_PKEY_up_ref(key)) {
        if (!chain)
            sk_X509_free(own);
        OPENSSL_free(made);
        return base_error_set_openssl(err, "cannot keep a certificate");
    }
    made->key = key;
    made->leaf = leaf;
    made->chain = own;
    made->not_before = not_before;
    made->not_after = not_after;
    *bundle = made;
    return APR_SUCCESS;
}

/* Append the certificate that a block holds. */
static apr_status_t push_certificate(STACK_OF(X509) *certs, const crypto_pem_block_t *block,
                                     base_error_t *err)
{
    const unsigned char *p = block->der;
    X509 *cert = NULL;

    if (sk_X509_num(certs) >= CRYPTO_BUNDLE_CHAIN_MAX)
        return base_error_set(err, BASE_ERROR_LOCAL, APR_EGENERAL,
                              "there are more than %d certificates", CRYPTO_BUNDLE_CHAIN_MAX);
    cert = d2i_X509(NULL, &p, block->len);
    ERR_clear_error();
    if (!cert || p != block->der + block->len) {
        X509_free(cert);
        return base_error_set(err, BASE_ERROR_LOCAL, APR_EGENERAL,
                              "PEM block %u is not a certificate", block->index + 1);
    }
    if (!sk_X509_push(certs, cert)) {
        X509_free(cert);
        return base_error_set_openssl(err, "cannot keep a certificate");
    }
    return APR_SUCCESS;
}

typedef struct {
    EVP_PKEY *key;
    STACK_OF(X509) *certs;
} file_t;

static apr_status_t take_file_block(void *baton, const crypto_pem_block_t *block,
                                    base_error_t *err)
{
    file_t *file = baton;

    if (block->index > 0)
        return push_certificate(file->certs, block, err);
    if (!strstr(block->label, "PRIVATE"))
        return base_error_set(err, BASE_ERROR_LOCAL, APR_EGENERAL,
                              "the first PEM block is not a private key");
    return crypto_key_from_block(&file->key, block, err);
}

apr_status_t crypto_bundle_parse(crypto_bundle_t **bundle, const char *pem, apr_size_t len,
                                 base_error_t *err)
{
    file_t file = { NULL, sk_X509_new_null() };
    X509 *leaf = NULL;
    apr_status_t status;

    if (!file.certs)
        return base_error_set_openssl(err, "cannot read a certificate file");
    status = crypto_pem_walk(pem, len, take_file_block, &file, err);
    if (status == APR_SUCCESS && sk_X509_num(file.certs) == 0)
        status = base_error_set(err, BASE_ERROR_LOCAL, APR_EGENERAL, "there is no certificate");
    if (status == APR_SUCCESS) {
        leaf = sk_X509_shift(file.certs);
        status = crypto_bundle_make(bundle, file.key, leaf, file.certs, err);
    }
    EVP_PKEY_free(file.key);
    if (status != APR_SUCCESS) {
        X509_free(leaf);
        sk_X509_pop_free(file.certs, X509_free);
    }
    return status;
}

static int belongs_to(X509 *cert, EVP_PKEY *key)
{
    int same = X509_check_private_key(cert, key) == 1;

    ERR_clear_error();
    return same;
}

apr_status_t crypto_bundle_check(const crypto_bundle_t *bundle, const char *name, int rsa,
                                 apr_time_t now, base_error_t *err)
{
    const char *why = NULL;

    if (!belongs_to(bundle->leaf, bundle->key))
        why = "the key does not belong to the certificate";
    else if (crypto_key_is_rsa(bundle->key) != !!rsa)
        why = rsa ? "the key is not RSA" : "the key is not EC";
    else if (!crypto_bundle_covers(bundle->leaf, name))
        why = "the certificate is not for this name";
    else if (!bundle->not_before || !bundle->not_after)
        why = "the certificate has an unreadable date";
    else if (now < bundle->not_before)
        why = "the certificate is not valid yet";
    else if (now > bundle->not_after)
        why = "the certificate is expired";
    ERR_clear_error();
    if (why)
        return base_error_set(err, BASE_ERROR_LOCAL, APR_EGENERAL, "%s", why);
    return APR_SUCCESS;
}

static apr_status_t take_ca_block(void *baton, const crypto_pem_block_t *block, base_error_t *err)
{
    /* RFC 8555 section 11.4: anything else, a private key most of all, must not
     * find its way into a file that a server reads. */
    if (strcmp(block->label, "CERTIFICATE") != 0)
        return base_error_set(err, BASE_ERROR_LOCAL, APR_EGENERAL,
                              "PEM block %u of the chain is not a CERTIFICATE",
                              block->index + 1);
    return push_certificate(baton, block, err);
}

static void drop_repeated(STACK_OF(X509) *certs)
{
    int i, k;

    for (i = 0; i < sk_X509_num(certs); i++) {
        for (k = sk_X509_num(certs) - 1; k > i; k--) {
            if (X509_cmp(sk_X509_value(certs, i), sk_X509_value(certs, k)) == 0)
                X509_free(sk_X509_delete(certs, k));
        }
    }
}

/* Take the certificate of our key out of the list. NULL when there is none. */
static X509 *shift_leaf(STACK_OF(X509) *certs, EVP_PKEY *key)
{
    int i;

    for (i = 0; i < sk_X509_num(certs); i++) {
        if (belongs_to(sk_X509_value(certs, i), key))
            return sk_X509_delete(certs, i);
    }
    return NULL;
}

/* @return NULL, or why a leaf of our key is no good */
static const char *judge_leaf(X509 *leaf, const char *name, apr_time_t now)
{
    apr_time_t not_before = crypto_bundle_asn1_time(X509_get0_notBefore(leaf));
    apr_time_t not_after = crypto_bundle_asn1_time(X509_get0_notAfter(leaf));

    if (X509_check_ca(leaf) != 0)
        return "the certificate is a CA certificate";
    if (X509_check_purpose(leaf, X509_PURPOSE_SSL_SERVER, 0) != 1)
        return "the certificate may not be used by a TLS server";
    if (!crypto_bundle_covers(leaf, name))
        return "the certificate is not for this name";
    if (!not_before || !not_after)
        return "the certificate has an unreadable date";
    if (now > not_after)
        return "the certificate is expired; check the clock of this machine";
    if (not_before > now + CLOCK_SKEW_MAX)
        return "the certificate begins more than an hour ahead; check the clock of this machine";
    return NULL;
}

static int has_signed(X509 *issuer, X509 *cert)
{
    EVP_PKEY *key = X509_get0_pubkey(issuer);
    int ok = key && X509_check_issued(issuer, cert) == X509_V_OK && X509_verify(cert, key) == 1;

    ERR_clear_error();
    return ok;
}

static int is_root(X509 *cert)
{
    return has_signed(cert, cert);
}

/* Take the issuer of a certificate out of the list, NULL when it is not there. Roots
 * are no candidates: beside its self-signed form a CA may be there cross-signed,
 * and only that form leads on. */
static X509 *shift_issuer(STACK_OF(X509) *certs, X509 *cert)
{
    int i;

    for (i = 0; i < sk_X509_num(certs); i++) {
        X509 *issuer = sk_X509_value(certs, i);

        if (X509_check_ca(issuer) != 0 && has_signed(issuer, cert) && !is_root(issuer))
            return sk_X509_delete(certs, i);
    }
    return NULL;
}

/* Move what leads up from the leaf to chain, link by link. What must be left over
 * then is roots: one that signed the last link, or the self-signed form of a
 * cross-signed link. */
static const char *order_chain(STACK_OF(X509) *chain, STACK_OF(X509) *certs, X509 *leaf)
{
    X509 *last = leaf, *issuer;
    int i, k;

    while ((issuer = shift_issuer(certs, last)) != NULL) {
        if (!sk_X509_push(chain, issuer)) {
            X509_free(issuer);
            return "cannot keep a certificate: out of memory";
        }
        last = issuer;
    }
    for (i = 0; i < sk_X509_num(certs); i++) {
        X509 *root = sk_X509_value(certs, i);
        int belongs = is_root(root) && has_signed(root, last);

        for (k = 0; is_root(root) && !belongs && k < sk_X509_num(chain); k++)
            belongs = has_signed(root, k ? sk_X509_value(chain, k - 1) : leaf);
        if (!belongs)
            return "the chain is not signed link by link";
    }
    return NULL;
}

apr_status_t crypto_bundle_from_ca(crypto_bundle_t **bundle, EVP_PKEY *key, const char *pem,
                                   apr_size_t len, const char *name, apr_time_t now,
                                   base_error_t *err)
{
    STACK_OF(X509) *certs = sk_X509_new_null(), *chain = sk_X509_new_null();
    X509 *leaf = NULL;
    const char *why = NULL;
    apr_status_t status = APR_ENOMEM;

    if (!certs || !chain) {
        base_error_set_openssl(err, "cannot read a chain");
        goto out;
    }
    status = crypto_pem_walk(pem, len, take_ca_block, certs, err);
    if (status != APR_SUCCESS) {
        if (err)
            err->kind = BASE_ERROR_CA_DOWN;
        goto out;
    }
    drop_repeated(certs);
    if ((leaf = shift_leaf(certs, key)) == NULL)
        why = "no certificate of the chain is for our key";
    else if ((why = judge_leaf(leaf, name, now)) == NULL)
        why = order_chain(chain, certs, leaf);
    if (why)
        status = base_error_set(err, BASE_ERROR_CA_DOWN, APR_EGENERAL, "the CA's answer: %s", why);
    else
        status = crypto_bundle_make(bundle, key, leaf, chain, err);
    if (status == APR_SUCCESS) {
        leaf = NULL;
        chain = NULL;
    }
out:
    ERR_clear_error();
    X509_free(leaf);
    sk_X509_pop_free(chain, X509_free);
    sk_X509_pop_free(certs, X509_free);
    return status;
}

apr_status_t crypto_bundle_write(const crypto_bundle_t *bundle, char **pem, apr_size_t *len,
                                 apr_pool_t *pool, base_error_t *err)
{
    BIO *bio = BIO_new(BIO_s_mem());
    apr_status_t status;
    int ok, i;

    if (!bio)
        return base_error_set_openssl(err, "cannot write a certificate file");
    status = crypto_key_write_bio(bio, bundle->key, err);
    if (status != APR_SUCCESS)
        goto out;
    ok = PEM_write_bio_X509(bio, bundle->leaf);
    for (i = 0; ok && i < sk_X509_num(bundle->chain); i++)
        ok = PEM_write_bio_X509(bio, sk_X509_value(bundle->chain, i));
    status = ok ? crypto_pem_copy(pem, len, bio, pool, err)
                : base_error_set_openssl(err, "cannot write a certificate file");
out:
    BIO_free(bio);
    return status;
}

const char *crypto_bundle_fingerprint(const crypto_bundle_t *bundle,
                                      char text[CRYPTO_BUNDLE_FINGERPRINT_SIZE])
{
    static const char digits[] = "0123456789abcdef";
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int len = 0, i, count = (CRYPTO_BUNDLE_FINGERPRINT_SIZE - 1) / 2;

    text[0] = '\0';
    if (!X509_digest(bundle->leaf, EVP_sha256(), digest, &len) || len < count) {
        ERR_clear_error();
        return text;
    }
    for (i = 0; i < count; i++) {
        text[2 * i] = digits[digest[i] >> 4];
        text[2 * i + 1] = digits[digest[i] & 0xf];
    }
    text[2 * count] = '\0';
    return text;
}

static int has_cn(const X509_NAME *name, const char *cn)
{
    int i = -1, found = 0;

    while (!found && (i = X509_NAME_get_index_by_NID((X509_NAME *)name, NID_commonName, i)) >= 0) {
        unsigned char *text = NULL;
        int len = ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, i)));

        found = len >= 0 && (size_t)len == strlen(cn) && strncasecmp((char *)text, cn, (size_t)len) == 0;
        OPENSSL_free(text);
    }
    return found;
}

typedef struct issuer_search_t {
    const char *cn;
    int found;
} issuer_search_t;

static apr_status_t look_for_issuer(void *baton, const crypto_pem_block_t *block, base_error_t *err)
{
    issuer_search_t *search = baton;
    const unsigned char *p = block->der;
    X509 *cert = strcmp(block->label, "CERTIFICATE") == 0 ? d2i_X509(NULL, &p, block->len) : NULL;

    (void)err;
    search->found = cert && has_cn(X509_get_issuer_name(cert), search->cn);
    X509_free(cert);
    ERR_clear_error();
    return search->found ? APR_EOF : APR_SUCCESS;
}

int crypto_bundle_chain_leads_to(const char *pem, apr_size_t len, const char *cn)
{
    issuer_search_t search = { cn, 0 };

    crypto_pem_walk(pem, len, look_for_issuer, &search, NULL);
    return search.found;
}
