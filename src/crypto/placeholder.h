/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file crypto/placeholder.h
 * What mod_ssl is given at start-up for a vhost without a certificate: a leaf
 * signed by a throwaway CA. Any thread; nothing blocks.
 */
#ifndef CRYPTO_PLACEHOLDER_H
#define CRYPTO_PLACEHOLDER_H

#include <apr_pools.h>
#include <apr_tables.h>
#include <apr_time.h>

#include "base/error.h"

/**
 * Make the PEM text: P-256 key (no EC PARAMETERS block), leaf, its CA. The leaf
 * has CA:FALSE and each name as a SAN, or mod_ssl warns about it; the issuer
 * stands in the file so that OCSP stapling finds it. The subject of the CA says
 * what it is: "mod_autocert placeholder". Key and CA are new for each call; the CA's key
 * is forgotten. Valid from a day before now for ten years: it is never trusted.
 * @param names of const char *, at least one: identifiers, or what vhosts are called otherwise; the first is
 *        the CN too, also when it is an address, as mod_ssl looks for that of a vhost there
 */
apr_status_t crypto_placeholder_make(char **pem, apr_size_t *len, const apr_array_header_t *names,
                                     apr_time_t now, apr_pool_t *pool, base_error_t *err);

#endif
