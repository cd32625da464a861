/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file httpd/certificates.h
 * This child's certificates (serve/certs.h), and what all children know about which there are: names on
 * demand come from strangers, so the cache is touched for them only if the certificate is there. Threads of
 * the MPM.
 */
#ifndef HTTPD_CERTIFICATES_H
#define HTTPD_CERTIFICATES_H

#include "manager/policy.h"
#include "serve/certs.h"

/** As serve_certs_acquire(); of a name that no configuration lists only what is in memory or known to be in
 * the cache. NULL without one. */
const serve_certs_entry_t *httpd_certificates_acquire(const manager_policy_name_t *name, apr_time_t now);

/** Give it back; NULL is fine. */
void httpd_certificates_release(const serve_certs_entry_t *entry);

/** A client was served: tell the calendar now and then (AutocertRetire). */
void httpd_certificates_note_visit(const manager_policy_name_t *name, const serve_certs_entry_t *entry,
                                   apr_time_t now);

/** Non-zero when an endpoint said lately that the name is not to have a certificate, and there is none. */
int httpd_certificates_is_refused(const manager_policy_name_t *name);

/** The entry of whatever certificate there is for a name of a plain request, whichever vhost it would belong
 * to; NULL without one. */
const serve_certs_entry_t *httpd_certificates_find(const char *spelled, apr_time_t now);

#endif
