/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "crypto/key.h"

#include <string.h>
#include <strings.h>

#include <openssl/asn1.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/obj_mac.h>
#include <openssl/objects.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#if OPENSSL_VERSION_NUMBER >= 0x30000000L
#include <openssl/core_names.h>
#endif

#define RSA_BITS_MIN 2048
#define RSA_BITS_MAX 8192
#define GROUP_NAME_MAX 64       /* bytes with the NUL */
#define PROBE_SIGNATURE_MAX 2048 /* octets; RSA of 8192 bits needs 1024 */

/* By crypto_key_type_t. */
static const struct {
    const char *name;
    int curve;      /* NID, 0 for RSA */
    int bits;       /* 0 for EC */
} types[CRYPTO_KEY_TYPES] = {
    { "p256", NID_X9_62_prime256v1, 0 },
    { "p384", NID_secp384r1, 0 },
    { "rsa2048", 0, 2048 },
    { "rsa3072", 0, 3072 },
    { "rsa4096", 0, 4096 },
};

int crypto_key_type_find(crypto_key_type_t *type, const char *spelling)
{
    static const struct {
        const char *spelling;
        crypto_key_type_t type;
    } spellings[] = {
        { "p256", CRYPTO_KEY_P256 },
        { "p-256", CRYPTO_KEY_P256 },
        { "secp256r1", CRYPTO_KEY_P256 },
        { "prime256v1", CRYPTO_KEY_P256 },
        { "p384", CRYPTO_KEY_P384 },
        { "p-384", CRYPTO_KEY_P384 },
        { "secp384r1", CRYPTO_KEY_P384 },
        { "rsa2048", CRYPTO_KEY_RSA2048 },
        { "rsa-2048", CRYPTO_KEY_RSA2048 },
        { "rsa3072", CRYPTO_KEY_RSA3072 },
        { "rsa-3072", CRYPTO_KEY_RSA3072 },
        { "rsa4096", CRYPTO_KEY_RSA4096 },
        { "rsa-4096", CRYPTO_KEY_RSA4096 },
    };
    size_t i;

    for (i = 0; i < sizeof(spellings) / sizeof(spellings[0]); i++) {
        if (strcasecmp(spelling, spellings[i].spelling) == 0) {
            *type = spellings[i].type;
            return 1;
        }
    }
    return 0;
}

const char *crypto_key_type_name(crypto_key_type_t type)
{
    return (unsigned int)type < CRYPTO_KEY_TYPES ? types[type].name : "unknown";
}

int crypto_key_type_is_rsa(crypto_key_type_t type)
{
    return (unsigned int)type < CRYPTO_KEY_TYPES && types[type].bits != 0;
}

apr_status_t crypto_key_generate(EVP_PKEY **key, crypto_key_type_t type, base_error_t *err)
{
    apr_status_t status = APR_SUCCESS;
    EVP_PKEY_CTX *ctx = NULL;
    EVP_PKEY *made = NULL;
    int rsa = crypto_key_type_is_rsa(type);

    if ((unsigned int)type >= CRYPTO_KEY_TYPES)
        return base_error_set(err, BASE_ERROR_LOCAL, APR_EINVAL, "unknown key type");
    ctx = EVP_PKEY_CTX_new_id(rsa ? EVP_PKEY_RSA : EVP_PKEY_EC, NULL);
    if (!ctx || EVP_PKEY_keygen_init(ctx) <= 0
        || (rsa && EVP_PKEY_CTX_set_rsa_keygen_bits(ctx, types[type].bits) <= 0)
        || (!rsa && (EVP_PKEY_CTX_set_ec_paramgen_curve_nid(ctx, types[type].curve) <= 0
                     || EVP_PKEY_CTX_set_ec_param_enc(ctx, OPENSSL_EC_NAMED_CURVE) <= 0))
        || EVP_PKEY_keygen(ctx, &made) <= 0)
        status = base_error_set_openssl(err, "cannot make a private key");
    else
        *key = made;
    EVP_PKEY_CTX_free(ctx);
    return status;
}

int crypto_key_is_rsa(const EVP_PKEY *key)
{
    return EVP_PKEY_base_id(key) == EVP_PKEY_RSA;
}

/* NID of the curve of an EC key, NID_undef for other keys and for curves spelt
 * out as numbers, which TLS and Go refuse. */
static int find_curve(const EVP_PKEY *key)
{
#if OPENSSL_VERSION_NUMBER >= 0x30000000L
    char group[GROUP_NAME_MAX];
    int spelt_out = 0;

    if (EVP_PKEY_base_id(key) != EVP_PKEY_EC
        || !EVP_PKEY_get_utf8_string_param(key, OSSL_PKEY_PARAM_GROUP_NAME, group, sizeof(group),
                                           NULL))
        return NID_undef;
    if (EVP_PKEY_get_int_param(key, OSSL_PKEY_PARAM_EC_DECODED_FROM_EXPLICIT_PARAMS, &spelt_out)
        && spelt_out)
        return NID_undef;
    return OBJ_txt2nid(group);
#else
    const EC_KEY *ec = EVP_PKEY_base_id(key) == EVP_PKEY_EC
                       ? EVP_PKEY_get0_EC_KEY((EVP_PKEY *)key) : NULL;
    const EC_GROUP *group = ec ? EC_KEY_get0_group(ec) : NULL;

    if (!group || EC_GROUP_get_asn1_flag(group) != OPENSSL_EC_NAMED_CURVE)
        return NID_undef;
    return EC_GROUP_get_curve_name(group);
#endif
}

int crypto_key_is(const EVP_PKEY *key, crypto_key_type_t type)
{
    int same = 0;

    if ((unsigned int)type >= CRYPTO_KEY_TYPES)
        return 0;
    if (types[type].bits)
        return crypto_key_is_rsa(key) && EVP_PKEY_bits(key) == types[type].bits;
    same = find_curve(key) == types[type].curve;
    ERR_clear_error();
    return same;
}

/* @return NULL, or why no server should use it */
static const char *judge_kind(const EVP_PKEY *key)
{
    int curve;

    if (crypto_key_is_rsa(key)) {
        int bits = EVP_PKEY_bits(key);

        return bits < RSA_BITS_MIN || bits > RSA_BITS_MAX
               ? "the RSA key has fewer than 2048 or more than 8192 bits" : NULL;
    }
    curve = find_curve(key);
    if (curve != NID_X9_62_prime256v1 && curve != NID_secp384r1 && curve != NID_secp521r1)
        return "the EC key is not on P-256, P-384 or P-521";
    return NULL;
}

/* Both halves stand in the file, and nothing has compared them yet: a damaged
 * private half would only show in handshakes. */
static int halves_match(EVP_PKEY *key)
{
    static const unsigned char probe[] = "probe";
    unsigned char signature[PROBE_SIGNATURE_MAX];
    size_t len = sizeof(signature);
    EVP_MD_CTX *sign = EVP_MD_CTX_new(), *verify = EVP_MD_CTX_new();
    int ok = sign && verify && EVP_DigestSignInit(sign, NULL, EVP_sha256(), NULL, key) > 0
             && EVP_DigestSign(sign, signature, &len, probe, sizeof(probe)) > 0
             && EVP_DigestVerifyInit(verify, NULL, EVP_sha256(), NULL, key) > 0
             && EVP_DigestVerify(verify, signature, len, probe, sizeof(probe)) > 0;

    EVP_MD_CTX_free(sign);
    EVP_MD_CTX_free(verify);
    return ok;
}

/* SEC 1, PKCS #1 and PKCS #8 keys all begin with their version; what begins with
 * an algorithm is an EncryptedPrivateKeyInfo, which must not come near code
 * that could ask for a passphrase. */
static int begins_with_version(const unsigned char *der, long len)
{
    const unsigned char *p = der;
    long content;
    int tag, class;

    if (len <= 0 || (ASN1_get_object(&p, &content, &tag, &class, len) & 0x80)
        || tag != V_ASN1_SEQUENCE || content < 1)
        return 0;
    return *p == V_ASN1_INTEGER;
}

static EVP_PKEY *decode(const unsigned char *der, long len)
{
    static const int kinds[] = { EVP_PKEY_EC, EVP_PKEY_RSA };
    size_t i;

    /* Each call takes PKCS #8 besides the form of its kind. */
    for (i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        const unsigned char *p = der;
        EVP_PKEY *key = d2i_PrivateKey(kinds[i], NULL, &p, len);

        if (key && p == der + len)
            return key;
        EVP_PKEY_free(key);
    }
    return NULL;
}

apr_status_t crypto_key_from_block(EVP_PKEY **key, const crypto_pem_block_t *block,
                                   base_error_t *err)
{
    EVP_PKEY *made = NULL;
    const char *why = NULL;

    if (strstr(block->label, "ENCRYPTED") || strstr(block->headers, "ENCRYPTED"))
        why = "the private key is encrypted";
    else if (!begins_with_version(block->der, block->len)
             || !(made = decode(block->der, block->len)))
        why = "the private key is damaged or neither RSA nor EC";
    else if ((why = judge_kind(made)) == NULL && !halves_match(made))
        why = "the private key is damaged: its two halves do not match";
    ERR_clear_error();
    if (why) {
        EVP_PKEY_free(made);
        return base_error_set(err, BASE_ERROR_LOCAL, APR_EGENERAL, "%s", why);
    }
    *key = made;
    return APR_SUCCESS;
}

static apr_status_t take_private_key(void *baton, const crypto_pem_block_t *block,
                                     base_error_t *err)
{
    apr_status_t status;

    if (!strstr(block->label, "PRIVATE KEY"))
        return APR_SUCCESS;
    status = crypto_key_from_block(baton, block, err);
    return status == APR_SUCCESS ? APR_EOF : status;
}

apr_status_t crypto_key_read(EVP_PKEY **key, const char *pem, apr_size_t len, base_error_t *err)
{
    EVP_PKEY *made = NULL;
    apr_status_t status = crypto_pem_walk(pem, len, take_private_key, &made, err);

    if (status != APR_SUCCESS)
        return status;
    if (!made)
        return base_error_set(err, BASE_ERROR_LOCAL, APR_EGENERAL, "there is no private key");
    *key = made;
    return APR_SUCCESS;
}

apr_status_t crypto_key_write_bio(BIO *out, EVP_PKEY *key, base_error_t *err)
{
    if (!PEM_write_bio_PrivateKey_traditional(out, key, NULL, NULL, 0, NULL, NULL))
        return base_error_set_openssl(err, "cannot write a private key");
    return APR_SUCCESS;
}

apr_status_t crypto_key_write(char **pem, apr_size_t *len, EVP_PKEY *key,
                              apr_pool_t *pool, base_error_t *err)
{
    BIO *bio = BIO_new(BIO_s_mem());
    apr_status_t status;

    if (!bio)
        return base_error_set_openssl(err, "cannot write a private key");
    status = crypto_key_write_bio(bio, key, err);
    if (status == APR_SUCCESS)
        status = crypto_pem_copy(pem, len, bio, pool, err);
    BIO_free(bio);
    return status;
}
