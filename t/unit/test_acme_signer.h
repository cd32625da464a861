/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file test_acme_signer.h
 * A judge for scripts: a CA with one account, which looks at signatures (ES256 only). The first key
 * that registers at /account is the account's; requests with a kid must be signed by it; a POST to
 * /key-change that the script answers with 200, or loses while loses_answers is set, changes it.
 */
#ifndef TEST_ACME_SIGNER_H
#define TEST_ACME_SIGNER_H

#include <openssl/bn.h>
#include <openssl/ec.h>

#include "crypto/jws.h"
#include "test_acme_script.h"

/* The public key of a JWK with these coordinates. */
static EVP_PKEY *signer_key(const json_t *jwk)
{
    static const unsigned char head[] = {
        0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
        0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04
    };
    unsigned char der[sizeof(head) + 64];
    const unsigned char *p = der;
    char number[64];

    if (jwk == NULL) {
        return NULL;
    }
    memcpy(der, head, sizeof(head));
    script_decode(base_json_string(jwk, "x"), number, sizeof(number));
    memcpy(der + sizeof(head), number, 32);
    script_decode(base_json_string(jwk, "y"), number, sizeof(number));
    memcpy(der + sizeof(head) + 32, number, 32);
    return d2i_PUBKEY(NULL, &p, sizeof(der));
}

static json_t *signer_decode(const char *text, apr_pool_t *pool)
{
    char *plain = apr_palloc(pool, strlen(text) + 1);

    script_decode(text, plain, strlen(text) + 1);
    return base_json_parse_object(plain, strlen(plain), pool);
}

static int signer_verify(const json_t *jws, EVP_PKEY *key, apr_pool_t *pool)
{
    const char *text = apr_pstrcat(pool, base_json_string(jws, "protected"), ".",
                                   base_json_string(jws, "payload"), NULL);
    unsigned char raw[128], *der = NULL;
    ECDSA_SIG *signature = ECDSA_SIG_new();
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    int len, good;

    script_decode(base_json_string(jws, "signature"), (char *)raw, sizeof(raw));
    ECDSA_SIG_set0(signature, BN_bin2bn(raw, 32, NULL), BN_bin2bn(raw + 32, 32, NULL));
    len = i2d_ECDSA_SIG(signature, &der);
    good = key != NULL && EVP_DigestVerifyInit(ctx, NULL, EVP_sha256(), NULL, key) == 1
           && EVP_DigestVerify(ctx, der, (size_t)len, (const unsigned char *)text, strlen(text)) == 1;
    ECDSA_SIG_free(signature);
    EVP_MD_CTX_free(ctx);
    OPENSSL_free(der);
    return good;
}

static int signer_is_same(EVP_PKEY *a, EVP_PKEY *b, apr_pool_t *pool)
{
    return a != NULL && b != NULL && strcmp(crypto_jws_jwk(a, pool), crypto_jws_jwk(b, pool)) == 0;
}

/* Registration, or the question for an account. */
static const char *signer_register(script_t *script, const json_t *header, const json_t *payload,
                                   int *status, apr_pool_t *pool)
{
    EVP_PKEY *key = signer_key(base_json_object(header, "jwk"));
    int same = signer_is_same(script->signer, key, pool);

    if (script->signer == NULL && !base_json_true(payload, "onlyReturnExisting") && *status == 201) {
        script->signer = key;
        return NULL;
    }
    EVP_PKEY_free(key);
    if (!same) {
        *status = 400;
        return "{\"type\":\"urn:ietf:params:acme:error:accountDoesNotExist\"}";
    }
    *status = *status == 201 ? 200 : *status;
    return NULL;
}

/* The inner signature is by the new key, over the account and the old one. */
static const char *signer_change(script_t *script, const json_t *header, const json_t *inner,
                                 const int *status, apr_pool_t *pool)
{
    json_t *inner_header = signer_decode(base_json_string(inner, "protected"), pool);
    json_t *payload = signer_decode(base_json_string(inner, "payload"), pool);
    EVP_PKEY *key = signer_key(base_json_object(inner_header, "jwk"));
    EVP_PKEY *old = signer_key(base_json_object(payload, "oldKey"));
    int good = signer_verify(inner, key, pool) && signer_is_same(old, script->signer, pool)
               && strcmp(base_json_string(payload, "account"), base_json_string(header, "kid")) == 0
               && strcmp(base_json_string(inner_header, "url"), base_json_string(header, "url")) == 0
               && base_json_string(inner_header, "nonce") == NULL;

    EVP_PKEY_free(old);
    if (good && (*status == 200 || (*status == SCRIPT_LOST && script->loses_answers))) {
        EVP_PKEY_free(script->signer);
        script->signer = key;
        key = NULL;
    }
    EVP_PKEY_free(key);
    return good ? NULL : "{\"type\":\"urn:ietf:params:acme:error:malformed\",\"detail\":\"inner JWS\"}";
}

/** The judge. */
SERVER_UNUSED static const char *signer_judge(script_t *script, const server_request_t *r, int *status)
{
    const char *answer = NULL;
    json_t *jws, *header;
    apr_pool_t *pool;

    if (strcmp(r->method, "POST") != 0) {
        return NULL;
    }
    apr_pool_create(&pool, NULL);
    jws = base_json_parse_object(r->body, strlen(r->body), pool);
    header = signer_decode(base_json_string(jws, "protected"), pool);
    if (base_json_string(header, "kid") == NULL) {
        answer = signer_register(script, header, signer_decode(base_json_string(jws, "payload"), pool),
                                 status, pool);
    }
    else if (!signer_verify(jws, script->signer, pool)) {
        *status = 400;
        answer = "{\"type\":\"urn:ietf:params:acme:error:malformed\",\"detail\":\"JWS verification error\"}";
    }
    else if (strcmp(r->path, "/key-change") == 0) {
        answer = signer_change(script, header, signer_decode(base_json_string(jws, "payload"), pool), status,
                               pool);
        *status = answer != NULL ? 400 : *status;
    }
    apr_pool_destroy(pool);
    return answer;
}

#endif
