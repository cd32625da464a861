/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "crypto/peer.h"

#include <openssl/obj_mac.h>

/* What a kind of key signs with in TLS 1.3 (one algorithm for each curve) and before. */
static const struct {
    int curve;                  /* NID, 0 for RSA */
    int hash;                   /* NID of the hash that TLS 1.3 binds to the curve */
} types[CRYPTO_KEY_TYPES] = {
    [CRYPTO_KEY_P256] = { NID_X9_62_prime256v1, NID_sha256 },
    [CRYPTO_KEY_P384] = { NID_secp384r1, NID_sha384 },
    [CRYPTO_KEY_RSA2048] = { 0, 0 },
    [CRYPTO_KEY_RSA3072] = { 0, 0 },
    [CRYPTO_KEY_RSA4096] = { 0, 0 }
};

static int fits_signature(int sign, int hash, crypto_key_type_t type, int is_tls13)
{
    if (types[type].curve == 0) {
        /* TLS 1.3 signs handshakes with PSS only; PKCS #1 is for certificates there. */
        return sign == EVP_PKEY_RSA_PSS || (sign == EVP_PKEY_RSA && !is_tls13);
    }
    return sign == EVP_PKEY_EC && (!is_tls13 || hash == types[type].hash);
}

static int offers_signature(SSL *ssl, crypto_key_type_t type, int is_tls13)
{
    int count = SSL_get_sigalgs(ssl, -1, NULL, NULL, NULL, NULL, NULL), i;

    if (count <= 0) {
        return !is_tls13;
    }
    for (i = 0; i < count; i++) {
        int sign = NID_undef, hash = NID_undef;

        SSL_get_sigalgs(ssl, i, &sign, &hash, NULL, NULL, NULL);
        if (fits_signature(sign, hash, type, is_tls13)) {
            return 1;
        }
    }
    return 0;
}

static int offers_suite(SSL *ssl, crypto_key_type_t type)
{
    STACK_OF(SSL_CIPHER) *suites = SSL_get_client_ciphers(ssl);
    int wanted = types[type].curve != 0 ? NID_auth_ecdsa : NID_auth_rsa, i;

    for (i = 0; i < sk_SSL_CIPHER_num(suites); i++) {
        if (SSL_CIPHER_get_auth_nid(sk_SSL_CIPHER_value(suites, i)) == wanted) {
            return 1;
        }
    }
    return 0;
}

static int offers_curve(SSL *ssl, crypto_key_type_t type)
{
    int groups[64], count = (int)SSL_get1_groups(ssl, NULL), i;

    if (types[type].curve == 0 || count <= 0) {
        return 1;
    }
    /* More than anybody offers: such a client is taken at its word. */
    if (count > (int)(sizeof(groups) / sizeof(groups[0]))) {
        return 1;
    }
    SSL_get1_groups(ssl, groups);
    for (i = 0; i < count; i++) {
        if (groups[i] == types[type].curve) {
            return 1;
        }
    }
    return 0;
}

int crypto_peer_can_use(SSL *ssl, crypto_key_type_t type)
{
    int is_tls13 = SSL_version(ssl) >= TLS1_3_VERSION;

    if (!offers_signature(ssl, type, is_tls13)) {
        return 0;
    }
    return is_tls13 || (offers_suite(ssl, type) && offers_curve(ssl, type));
}
