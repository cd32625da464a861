/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file httpd/placeholder.h
 * Certificate files for mod_ssl at start-up: it refuses to start a TLS vhost without one. Parent only,
 * one thread.
 */
#ifndef HTTPD_PLACEHOLDER_H
#define HTTPD_PLACEHOLDER_H

#include <httpd.h>

/**
 * The path of a PEM file with key, certificate and issuer for a vhost; a path of its own for each
 * vhost, because mod_ssl compares paths to tell certificates apart (SSLVHostSNIPolicy). The
 * content is kept over both passes and graceful restarts, so that a thousand vhosts cost a
 * thousand signatures only once.
 * @return NULL when it cannot be made (logged)
 */
const char *httpd_placeholder_file(server_rec *s, const apr_array_header_t *names, apr_pool_t *pconf);

/** Begin a pass: what the last one used is kept until the end of this one. pre_config. */
void httpd_placeholder_begin(apr_pool_t *pconf);

/** mod_ssl has read the files: remove them. A REALLY_LAST post_config of each pass. */
void httpd_placeholder_remove_files(void);

#endif
