/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file httpd/cas.h
 * The AutocertCA lines: CAs known by name, the settings of each, and the secrets that belong to them.
 */
#ifndef HTTPD_CAS_H
#define HTTPD_CAS_H

#include <httpd.h>
#include <http_config.h>

#include "httpd/config.h"

/** One line. @param args as it stands there @return NULL, or what is wrong and what to write: never with a
 * secret in it */
const char *httpd_cas_add(cmd_parms *cmd, const char *args);

/** check_config, before anything else looks at the CAs: the default without a line, AutocertEmail and the
 * terms in each. */
void httpd_cas_complete(apr_pool_t *pconf);

/** Non-zero when none of them is a private CA; after httpd_cas_complete(). */
int httpd_cas_are_public(void);

/** const char *: what about a CA will probably not work, and what to write. After httpd_cas_complete(). */
const apr_array_header_t *httpd_cas_find_doubts(const httpd_config_ca_t *ca, apr_pool_t *pool);

/** post_config, second pass, first thing: read the secret files (account=, eab=) while this is still root.
 * One that is of no use is logged, and the CA is used without it. */
void httpd_cas_read_secrets(apr_pool_t *pconf, apr_pool_t *ptemp, server_rec *s);

/** const manager_ca_config_t *, preferred first, in the pool; what they point to lives as long as the
 * configuration. */
const apr_array_header_t *httpd_cas_list(apr_pool_t *pool);

#endif
