/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "crypto/jws.h"

#include <string.h>

#include <apr_encode.h>
#include <apr_strings.h>
#include <openssl/bn.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/hmac.h>
#include <openssl/rsa.h>
#include <openssl/sha.h>
#if OPENSSL_VERSION_NUMBER >= 0x30000000L
#include <openssl/core_names.h>
#endif

#include "base/base64url.h"
#include "base/json.h"
#include "crypto/key.h"

#define COORDINATE_MAX 48       /* octets, of P-384 */
#define RSA_NUMBER_MAX 1024     /* octets of a modulus: 8192 bits */
#define SIGNATURE_MAX 1024      /* octets; the RSA ones are the longest */

/* What RFC 7518 section 3.4 and 6.2.1 fix for each curve. */
typedef struct {
    crypto_key_type_t type;
    const char *algorithm;
    const char *curve;
    int octets;                 /* of a coordinate and of half a signature */
    const EVP_MD *(*digest)(void);
} ec_kind_t;

static const ec_kind_t ec_kinds[] = {
    { CRYPTO_KEY_P256, "ES256", "P-256", 32, EVP_sha256 },
    { CRYPTO_KEY_P384, "ES384", "P-384", 48, EVP_sha384 },
};

/* NULL for RSA and other curves. */
static const ec_kind_t *find_ec_kind(const EVP_PKEY *key)
{
    size_t i;

    for (i = 0; i < sizeof(ec_kinds) / sizeof(ec_kinds[0]); i++) {
        if (crypto_key_is(key, ec_kinds[i].type))
            return &ec_kinds[i];
    }
    return NULL;
}

const char *crypto_jws_algorithm(EVP_PKEY *key)
{
    const ec_kind_t *kind = find_ec_kind(key);

    if (kind)
        return kind->algorithm;
    return crypto_key_is_rsa(key) ? "RS256" : NULL;
}

/* Copy two numbers of the public key into new BIGNUMs: x and y, or e and n.
 * @return zero when it fails; both must be freed in any case */
static int copy_public_numbers(EVP_PKEY *key, int rsa, BIGNUM **first, BIGNUM **second)
{
#if OPENSSL_VERSION_NUMBER >= 0x30000000L
    return EVP_PKEY_get_bn_param(key, rsa ? OSSL_PKEY_PARAM_RSA_E : OSSL_PKEY_PARAM_EC_PUB_X,
                                 first)
           && EVP_PKEY_get_bn_param(key, rsa ? OSSL_PKEY_PARAM_RSA_N : OSSL_PKEY_PARAM_EC_PUB_Y,
                                    second);
#else
    const EC_KEY *ec;

    if (rsa) {
        const BIGNUM *n = NULL, *e = NULL;

        RSA_get0_key(EVP_PKEY_get0_RSA(key), &n, &e, NULL);
        *first = BN_dup(e);
        *second = BN_dup(n);
        return *first && *second;
    }
    ec = EVP_PKEY_get0_EC_KEY(key);
    *first = BN_new();
    *second = BN_new();
    return *first && *second && EC_KEY_get0_public_key(ec)
           && EC_POINT_get_affine_coordinates(EC_KEY_get0_group(ec), EC_KEY_get0_public_key(ec),
                                              *first, *second, NULL);
#endif
}

/* base64url of a number. @param octets 0 for as few as it takes */
static const char *encode_number(const BIGNUM *number, int octets, apr_pool_t *pool)
{
    unsigned char bytes[RSA_NUMBER_MAX];
    int size = octets ? octets : BN_num_bytes(number);

    if (size > (int)sizeof(bytes) || BN_bn2binpad(number, bytes, size) != size)
        return NULL;
    return base_base64url_encode(bytes, (apr_size_t)size, pool);
}

const char *crypto_jws_jwk(EVP_PKEY *key, apr_pool_t *pool)
{
    const ec_kind_t *kind = find_ec_kind(key);
    int rsa = crypto_key_is_rsa(key);
    BIGNUM *first = NULL, *second = NULL;
    const char *jwk = NULL;

    if ((kind || rsa) && copy_public_numbers(key, rsa, &first, &second)) {
        const char *a = encode_number(first, kind ? kind->octets : 0, pool);
        const char *b = encode_number(second, kind ? kind->octets : 0, pool);

        if (a && b && rsa)
            jwk = apr_pstrcat(pool, "{\"e\":\"", a, "\",\"kty\":\"RSA\",\"n\":\"", b, "\"}",
                              NULL);
        else if (a && b)
            jwk = apr_pstrcat(pool, "{\"crv\":\"", kind->curve, "\",\"kty\":\"EC\",\"x\":\"", a,
                              "\",\"y\":\"", b, "\"}", NULL);
    }
    ERR_clear_error();
    BN_free(first);
    BN_free(second);
    return jwk;
}

const char *crypto_jws_thumbprint(EVP_PKEY *key, apr_pool_t *pool)
{
    unsigned char digest[SHA256_DIGEST_LENGTH];
    const char *jwk = crypto_jws_jwk(key, pool);

    if (!jwk || !EVP_Digest(jwk, strlen(jwk), digest, NULL, EVP_sha256(), NULL))
        return NULL;
    return base_base64url_encode(digest, sizeof(digest), pool);
}

/* JSON of the protected header; NULL when a string is not UTF-8. */
static const char *write_header(EVP_PKEY *key, const crypto_jws_header_t *header,
                                apr_pool_t *pool)
{
    const char *jwk = header->kid ? NULL : crypto_jws_jwk(key, pool);
    json_t *object = json_object();
    int failed = !object || (!header->kid && !jwk)
                 || json_object_set_new(object, "alg", json_string(crypto_jws_algorithm(key)))
                 || (header->nonce
                     && json_object_set_new(object, "nonce", json_string(header->nonce)))
                 || json_object_set_new(object, "url", json_string(header->url))
                 || (header->kid
                     && json_object_set_new(object, "kid", json_string(header->kid)))
                 || (jwk && json_object_set_new(object, "jwk", json_loads(jwk, 0, NULL)));

    if (failed) {
        json_decref(object);
        return NULL;
    }
    return base_json_dump(object, pool);
}

/* RFC 7518 section 3.4 wants R and S side by side, each of full width; OpenSSL
 * makes a DER SEQUENCE of two INTEGERs of any length. @return the new length, 0 when it fails */
static size_t flatten_ecdsa(unsigned char out[2 * COORDINATE_MAX], const unsigned char *der,
                            size_t len, int octets)
{
    ECDSA_SIG *signature = d2i_ECDSA_SIG(NULL, &der, (long)len);
    const BIGNUM *r, *s;
    size_t made = 0;

    if (signature) {
        ECDSA_SIG_get0(signature, &r, &s);
        if (BN_bn2binpad(r, out, octets) == octets
            && BN_bn2binpad(s, out + octets, octets) == octets)
            made = 2 * (size_t)octets;
    }
    ECDSA_SIG_free(signature);
    return made;
}

/* base64url of the signature over a text; NULL when it fails. */
static const char *sign_text(EVP_PKEY *key, const char *text, apr_pool_t *pool)
{
    const ec_kind_t *kind = find_ec_kind(key);
    unsigned char raw[SIGNATURE_MAX], flat[2 * COORDINATE_MAX];
    size_t len = sizeof(raw);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    const char *made = NULL;

    if (ctx && EVP_DigestSignInit(ctx, NULL, kind ? kind->digest() : EVP_sha256(), NULL, key) > 0
        && EVP_DigestSign(ctx, raw, &len, (const unsigned char *)text, strlen(text)) > 0) {
        if (!kind)
            made = base_base64url_encode(raw, len, pool);
        else if ((len = flatten_ecdsa(flat, raw, len, kind->octets)) > 0)
            made = base_base64url_encode(flat, len, pool);
    }
    EVP_MD_CTX_free(ctx);
    return made;
}

apr_status_t crypto_jws_sign(const char **jws, EVP_PKEY *key, const crypto_jws_header_t *header,
                             const char *payload, apr_pool_t *pool, base_error_t *err)
{
    const char *text, *head, *body, *signature;

    if (!crypto_jws_algorithm(key))
        return base_error_set(err, BASE_ERROR_OPERATOR, APR_EINVAL,
                              "the account key must be P-256, P-384 or RSA");
    text = write_header(key, header, pool);
    if (!text)
        return base_error_set(err, BASE_ERROR_LOCAL, APR_EGENERAL,
                              "cannot write the header of a request");
    head = base_base64url_encode(text, strlen(text), pool);
    body = base_base64url_encode(payload, strlen(payload), pool);
    signature = head && body ? sign_text(key, apr_pstrcat(pool, head, ".", body, NULL), pool)
                             : NULL;
    if (!signature)
        return base_error_set_openssl(err, "cannot sign a request");
    *jws = apr_pstrcat(pool, "{\"protected\":\"", head, "\",\"payload\":\"", body,
                       "\",\"signature\":\"", signature, "\"}", NULL);
    return APR_SUCCESS;
}

/* CAs hand MAC keys out as base64url without padding (as RFC 8555 section 7.3.4 has it), padded, or
 * as plain base64. @param text set to the first letter @return how many, without the padding; 0 when it is
 * none of these */
static size_t measure_mac_key(const char **text)
{
    static const char url_letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    static const char blanks[] = " \t\r\n";
    const char *s = *text + strspn(*text, blanks);
    /* One alphabet or the other; a mixture is a slip of the hand. */
    size_t size = strspn(s, strpbrk(s, "-_") ? url_letters : letters), padding = strspn(s + size, "=");

    *text = s;
    s += size + padding;
    if (size % 4 == 1 || padding > 2 || (padding > 0 && (size + padding) % 4 != 0)
        || s[strspn(s, blanks)] != '\0')
        return 0;
    return size;
}

int crypto_jws_is_mac_key(const char *text)
{
    return measure_mac_key(&text) > 0;
}

static unsigned char *decode_mac_key(const char *text, apr_size_t *len, apr_pool_t *pool)
{
    size_t size = measure_mac_key(&text);
    unsigned char *bytes;

    if (size == 0)
        return NULL;
    bytes = apr_palloc(pool, size);
    if (apr_decode_base64_binary(bytes, text, (apr_ssize_t)size, APR_ENCODE_NONE, len) != APR_SUCCESS)
        return NULL;
    return bytes;
}

/* base64url of HMAC-SHA-256 over a text; NULL when it fails. */
static const char *authenticate_text(const unsigned char *mac_key, apr_size_t len, const char *text,
                                     apr_pool_t *pool)
{
    unsigned char mac[SHA256_DIGEST_LENGTH];
    unsigned int size = sizeof(mac);

    if (!HMAC(EVP_sha256(), mac_key, (int)len, (const unsigned char *)text, strlen(text), mac, &size))
        return NULL;
    return base_base64url_encode(mac, size, pool);
}

apr_status_t crypto_jws_sign_binding(const char **jws, EVP_PKEY *account, const char *kid,
                                     const char *mac_key, const char *url, apr_pool_t *pool,
                                     base_error_t *err)
{
    apr_size_t len = 0;
    unsigned char *bytes = decode_mac_key(mac_key, &len, pool);
    const char *jwk = crypto_jws_jwk(account, pool), *text, *head, *body, *mac;

    if (!bytes || len == 0)
        return base_error_set(err, BASE_ERROR_OPERATOR, APR_EINVAL,
                              "the MAC key of the external account binding is not base64url: "
                              "copy it as the CA shows it");
    text = base_json_dump(json_pack("{s:s, s:s, s:s}", "alg", "HS256", "kid", kid, "url", url), pool);
    if (!jwk || !text) {
        OPENSSL_cleanse(bytes, len);
        return base_error_set(err, BASE_ERROR_LOCAL, APR_EGENERAL,
                              "cannot write an external account binding");
    }
    head = base_base64url_encode(text, strlen(text), pool);
    body = base_base64url_encode(jwk, strlen(jwk), pool);
    mac = authenticate_text(bytes, len, apr_pstrcat(pool, head, ".", body, NULL), pool);
    OPENSSL_cleanse(bytes, len);
    if (!mac)
        return base_error_set_openssl(err, "cannot sign an external account binding");
    *jws = apr_pstrcat(pool, "{\"protected\":\"", head, "\",\"payload\":\"", body,
                       "\",\"signature\":\"", mac, "\"}", NULL);
    return APR_SUCCESS;
}
