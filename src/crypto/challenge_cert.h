/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file crypto/challenge_cert.h
 * The self-signed certificate that answers tls-alpn-01 (RFC 8737 section 3).
 * Any thread; nothing blocks.
 */
#ifndef CRYPTO_CHALLENGE_CERT_H
#define CRYPTO_CHALLENGE_CERT_H

#include <apr_time.h>

#include "base/error.h"
#include "crypto/bundle.h"

/**
 * Make a P-256 key and a certificate with one dNSName or iPAddress (RFC 8738) and the critical
 * id-pe-acmeIdentifier extension holding SHA-256 of the key authorization;
 * valid from an hour before now (other clocks) for 24 hours.
 * @param key_authorization RFC 8555 section 8.1
 */
apr_status_t crypto_challenge_cert_make(crypto_bundle_t **bundle, const char *name,
                                        const char *key_authorization, apr_time_t now,
                                        base_error_t *err);

/** Non-zero when a certificate carries that extension: it must never be shown
 * to a client that did not ask for acme-tls/1. */
int crypto_challenge_cert_is(const X509 *cert);

/** Non-zero when that extension stands there, critical, with the digest of this key authorization, as a
 * CA looks at it. The name is not looked at: see crypto_bundle_covers(). */
int crypto_challenge_cert_answers(const X509 *cert, const char *key_authorization);

#endif
