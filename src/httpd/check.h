/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file httpd/check.h
 * What can be judged only when the whole configuration is known: which vhosts are managed,
 * with which names, and whether that can work. Runs in check_config, so "apachectl -t" says all of it,
 * as any user; opens no secret, writes nothing, needs no network.
 */
#ifndef HTTPD_CHECK_H
#define HTTPD_CHECK_H

#include <httpd.h>

/** Fill in the found-out parts of the configuration and the policy; log errors and
 * warnings with file and line. @return OK, or HTTP_INTERNAL_SERVER_ERROR after an error */
int httpd_check_config(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp,
                       server_rec *main_server);

#endif
