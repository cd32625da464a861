/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file acme/renewal_info.h
 * When the CA wishes a certificate to be replaced (RFC 9773). The request is not signed. Blocking; any
 * thread. What is done with the answer is decided in manager/renewal.h.
 */
#ifndef ACME_RENEWAL_INFO_H
#define ACME_RENEWAL_INFO_H

#include <apr_pools.h>
#include <apr_time.h>

#include "acme/client.h"
#include "base/error.h"

/** The suggested window, start < end. */
typedef struct acme_renewal_info_t {
    apr_time_t start;
    apr_time_t end;
    apr_time_t retry_at;        /* Retry-After as a moment on our clock, 0 without a usable one */
    const char *explanation;    /* URL for people, in the pool; NULL: none */
} acme_renewal_info_t;

/**
 * Ask for the window of a certificate (RFC 9773 section 4.1).
 * @param id of the certificate, as crypto_cert_renewal_id() makes it
 * @return APR_ENOTIMPL (kind NONE in err): the directory has no renewalInfo; else an error:
 *   CA_DOWN     no answer, a 5xx: to be tried again with growing waits
 *   WAIT        429, or 503 with Retry-After: retry_at
 *   GONE        404: the CA does not know the certificate
 *   OPERATOR    any other answer that is of no use: no JSON, no or a reversed window (section 4.2)
 *   CANCELLED   asked to stop
 */
apr_status_t acme_renewal_info_fetch(acme_renewal_info_t *info, acme_client_t *client, const char *id,
                                     apr_pool_t *pool, base_error_t *err);

#endif
