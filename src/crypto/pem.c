/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "crypto/pem.h"

#include <string.h>

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/pem.h>

static const char BOM[] = "\xef\xbb\xbf";
static const char BEGIN[] = "-----BEGIN ";
#define BOM_LEN (sizeof(BOM) - 1)
#define BEGIN_LEN (sizeof(BEGIN) - 1)

/* Where blocks begin, by the letters alone. OpenSSL takes a damaged BEGIN line
 * for text and skips its block silently; the count tells. */
static unsigned int count_begin_lines(const char *pem, apr_size_t len)
{
    const char *line = pem, *end = pem + len;
    unsigned int count = 0;

    while (line < end) {
        size_t left = (size_t)(end - line);
        const char *newline = memchr(line, '\n', left);

        if (memcmp(line, BEGIN, left < BEGIN_LEN ? left : BEGIN_LEN) == 0)
            count++;
        if (!newline)
            break;
        line = newline + 1;
    }
    return count;
}

/* @return APR_EOF at the end of the text */
static apr_status_t hand_over_next(BIO *bio, unsigned int index, crypto_pem_fn *fn, void *baton,
                                   int *fn_ended, base_error_t *err)
{
    crypto_pem_block_t block = { .index = index };
    char *label = NULL, *headers = NULL;
    unsigned char *der = NULL;
    apr_status_t status;

    /* "Secure": line buffers are overwritten too, not only freed. */
    if (!PEM_read_bio_ex(bio, &label, &headers, &der, &block.len,
                         PEM_FLAG_SECURE | PEM_FLAG_EAY_COMPATIBLE)) {
        if (ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE) {
            ERR_clear_error();
            return APR_EOF;
        }
        ERR_clear_error();
        return base_error_set(err, BASE_ERROR_LOCAL, APR_EGENERAL,
                              "PEM block %u is damaged or not whole", index + 1);
    }
    block.label = label;
    block.headers = headers;
    block.der = der;
    status = fn(baton, &block, err);
    *fn_ended = status == APR_EOF;
    OPENSSL_secure_clear_free(der, (size_t)block.len);
    OPENSSL_secure_free(label);
    OPENSSL_secure_free(headers);
    return status;
}

apr_status_t crypto_pem_walk(const char *pem, apr_size_t len, crypto_pem_fn *fn, void *baton,
                             base_error_t *err)
{
    apr_status_t status = APR_SUCCESS;
    unsigned int index;
    int fn_ended = 0;
    BIO *bio;

    if (len > CRYPTO_PEM_BYTES_MAX)
        return base_error_set(err, BASE_ERROR_LOCAL, APR_EGENERAL,
                              "PEM text is longer than %d bytes", CRYPTO_PEM_BYTES_MAX);
    /* Some editors leave it; some versions of OpenSSL skip it, others the whole block. */
    if (len >= BOM_LEN && memcmp(pem, BOM, BOM_LEN) == 0) {
        pem += BOM_LEN;
        len -= BOM_LEN;
    }
    if (len == 0)
        return base_error_set(err, BASE_ERROR_LOCAL, APR_EGENERAL, "there is no PEM block");
    bio = BIO_new_mem_buf(pem, (int)len);
    if (!bio)
        return base_error_set_openssl(err, "cannot read a PEM text");
    for (index = 0; ; index++) {
        status = hand_over_next(bio, index, fn, baton, &fn_ended, err);
        if (status != APR_SUCCESS)
            break;
    }
    BIO_free(bio);
    if (status != APR_EOF)
        return status;
    if (fn_ended)
        return APR_SUCCESS;
    if (count_begin_lines(pem, len) != index)
        return base_error_set(err, BASE_ERROR_LOCAL, APR_EGENERAL,
                              "a PEM block is damaged or not whole");
    if (index == 0)
        return base_error_set(err, BASE_ERROR_LOCAL, APR_EGENERAL, "there is no PEM block");
    return APR_SUCCESS;
}

typedef struct {
    char *text;
    apr_size_t len;
} secret_t;

static apr_status_t cleanse_secret(void *baton)
{
    secret_t *secret = baton;

    OPENSSL_cleanse(secret->text, secret->len);
    return APR_SUCCESS;
}

apr_status_t crypto_pem_copy(char **pem, apr_size_t *len, BIO *from, apr_pool_t *pool,
                             base_error_t *err)
{
    char *data = NULL;
    long data_len = BIO_get_mem_data(from, &data);
    secret_t *secret;

    if (data_len <= 0 || !data)
        return base_error_set(err, BASE_ERROR_LOCAL, APR_EGENERAL, "an empty PEM text was made");
    secret = apr_palloc(pool, sizeof(*secret));
    secret->len = (apr_size_t)data_len;
    secret->text = apr_palloc(pool, secret->len + 1);
    apr_pool_cleanup_register(pool, secret, cleanse_secret, apr_pool_cleanup_null);
    memcpy(secret->text, data, secret->len);
    secret->text[secret->len] = '\0';
    *pem = secret->text;
    *len = secret->len;
    return APR_SUCCESS;
}
