/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file httpd/host_policy.h
 * AutocertHostPolicy lines and the hook for other modules, as rules of manager/policy.h.
 */
#ifndef HTTPD_HOST_POLICY_H
#define HTTPD_HOST_POLICY_H

#include <httpd.h>
#include <http_config.h>

#include "httpd/config.h"

/** One line: adds to the rules of the server it stands in ("none" makes them empty). @return NULL, or the
 * sentence that says what to write. Configuration time. */
const char *httpd_host_policy_add(const cmd_parms *cmd, httpd_config_t *config, int argc,
                                  char *const argv[]);

/** The rules of a managed vhost: its lines, then the hook of other modules. In the pool. */
const apr_array_header_t *httpd_host_policy_rules(server_rec *s, const httpd_config_t *config,
                                                  apr_pool_t *pool);

/** Make the shared memory of all files that lines name, and read them; post_config, second pass. What was
 * read before a graceful restart is kept. Problems are logged. */
void httpd_host_policy_load_files(server_rec *s, apr_pool_t *ptemp);

#endif
