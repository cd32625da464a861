/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file httpd/secrets.h
 * Files that the configuration names: judged when it is read, by "-t" too; secret ones read at start while
 * this is still root. The parent's one thread; a file's time.
 */
#ifndef HTTPD_SECRETS_H
#define HTTPD_SECRETS_H

#include <apr_pools.h>

#define HTTPD_SECRETS_MAX (16 * 1024)   /* bytes of a secret file; what is longer is cut */

/** Judge a file without opening it. @param what to write the path of, when there is none: "a PEM file"
 * @param secret nobody but its owner may read it @return NULL, or what to write or do */
const char *httpd_secrets_check_file(const char *path, const char *what, int secret, apr_pool_t *pool);

/** Read one. @param text with a NUL behind it, in the pool @param len may be NULL */
apr_status_t httpd_secrets_read(char **text, apr_size_t *len, const char *path, apr_pool_t *pool,
                                apr_pool_t *ptemp);

#endif
