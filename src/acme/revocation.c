/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "acme/revocation.h"

#include <string.h>

#include <apr_strings.h>
#include <openssl/bn.h>
#include <openssl/crypto.h>

#include "base/base64url.h"
#include "base/json.h"
#include "base/log.h"

/* NULL when there is no memory for it. */
static const char *write_payload(X509 *cert, acme_revocation_reason_t reason, apr_pool_t *pool)
{
    unsigned char *der = NULL;
    int len = i2d_X509(cert, &der);
    json_t *json = len > 0 ? json_pack("{s:s}", "certificate",
                                       base_base64url_encode(der, (apr_size_t)len, pool)) : NULL;

    OPENSSL_free(der);
    /* "Unspecified" is said by saying nothing (RFC 5280 section 5.3.1). */
    if (json != NULL && reason != ACME_REVOCATION_UNSPECIFIED) {
        json_object_set_new(json, "reason", json_integer(reason));
    }
    return json != NULL ? base_json_dump(json, pool) : NULL;
}

static apr_status_t send_once(acme_account_t *account, const char *url, X509 *cert, EVP_PKEY *key,
                              acme_revocation_reason_t reason, apr_pool_t *pool, base_error_t *err)
{
    acme_client_request_t request = { 0 };
    acme_client_answer_t answer;

    request.url = url;
    request.payload = write_payload(cert, reason, pool);
    if (request.payload == NULL) {
        return base_error_set(err, BASE_ERROR_LOCAL, APR_ENOMEM, "the revocation cannot be written as JSON");
    }
    if (key == NULL) {
        return acme_account_post(account, &request, &answer, pool, err);
    }
    request.key = key;
    return acme_client_post(acme_account_client(account), &request, &answer, pool, err);
}

/* In hex, as people know it; "?" without memory. */
static const char *show_serial(X509 *cert, apr_pool_t *pool)
{
    BIGNUM *number = ASN1_INTEGER_to_BN(X509_get_serialNumber(cert), NULL);
    char *hex = number != NULL ? BN_bn2hex(number) : NULL;
    const char *text = hex != NULL ? apr_pstrdup(pool, hex) : "?";

    OPENSSL_free(hex);
    BN_free(number);
    return text;
}

apr_status_t acme_revocation_send(acme_account_t *account, X509 *cert, EVP_PKEY *key,
                                  acme_revocation_reason_t reason, apr_pool_t *pool, base_error_t *err)
{
    acme_client_t *client = acme_account_client(account);
    const char *after = "";
    acme_client_directory_t directory;
    base_error_t local;
    apr_status_t st;

    err = err != NULL ? err : &local;
    st = acme_client_directory(client, &directory, pool, err);
    if (st != APR_SUCCESS) {
        return st;
    }
    if (directory.revoke_cert == NULL) {
        return base_error_set(err, BASE_ERROR_OPERATOR, APR_ENOTIMPL, "this CA revokes nothing by ACME (its "
                              "directory has no revokeCert)");
    }
    st = send_once(account, directory.revoke_cert, cert, key, reason, pool, err);
    if (st != APR_SUCCESS && strcmp(err->type, "badRevocationReason") == 0
        && reason != ACME_REVOCATION_UNSPECIFIED) {
        after = ", without the reason, which it does not take";
        st = send_once(account, directory.revoke_cert, cert, key, ACME_REVOCATION_UNSPECIFIED, pool, err);
    }
    if (st != APR_SUCCESS && strcmp(err->type, "alreadyRevoked") == 0) {
        after = "; it had done so before";
        base_error_clear(err);
        st = APR_SUCCESS;
    }
    if (st == APR_SUCCESS) {
        base_log(BASE_LOG_NOTICE, "AC0234", NULL, "%s: the CA revoked the certificate with the serial number "
                 "%s%s", acme_client_config(client)->name, show_serial(cert, pool), after);
    }
    return st;
}
