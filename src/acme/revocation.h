/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file acme/revocation.h
 * Tell the CA that a certificate is to be revoked (RFC 8555 section 7.6). Blocking; any thread.
 */
#ifndef ACME_REVOCATION_H
#define ACME_REVOCATION_H

#include <apr_pools.h>
#include <openssl/x509.h>

#include "acme/account.h"
#include "base/error.h"

/** Reasons that CAs take from a subscriber (RFC 5280 section 5.3.1). */
typedef enum {
    ACME_REVOCATION_UNSPECIFIED = 0,
    ACME_REVOCATION_KEY_COMPROMISE = 1,
    ACME_REVOCATION_SUPERSEDED = 4,
    ACME_REVOCATION_CESSATION = 5
} acme_revocation_reason_t;

/**
 * Revoke. alreadyRevoked is a success; badRevocationReason makes it try again without a reason.
 * @param key of the certificate: then it signs, not the account (for CAs that take key compromise
 *        only so); NULL: the account signs
 * Errors: as acme_client_post(); OPERATOR when the directory has no revokeCert.
 */
apr_status_t acme_revocation_send(acme_account_t *account, X509 *cert, EVP_PKEY *key,
                                  acme_revocation_reason_t reason, apr_pool_t *pool, base_error_t *err);

#endif
