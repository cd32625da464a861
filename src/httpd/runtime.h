/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file httpd/runtime.h
 * What this process has: the shared memory and the wake pipe, made by the parent and inherited;
 * the cache and the table of certificates, opened by each child for itself.
 */
#ifndef HTTPD_RUNTIME_H
#define HTTPD_RUNTIME_H

#include <httpd.h>

#include "cache/cache.h"
#include "serve/certs.h"
#include "shared/segment.h"

typedef struct httpd_runtime_t {
    shared_segment_t *segment;  /* parent and children; NULL when nothing is managed */
    shared_names_t *present;    /* its sets, as shared/segment.h says */
    shared_names_t *visits;
    int wake_fd[2];             /* a byte wakes the elected child; -1 without one */
    cache_t *cache;             /* children only */
    serve_certs_t *certs;       /* children only; NULL when it could not be made */
} httpd_runtime_t;

/** The one of this process. Any thread; read only after child_init. */
const httpd_runtime_t *httpd_runtime(void);

/** post_config, second pass: shared memory (found again after a graceful restart), pipe and the
 * cache's place. Problems are logged; the server starts all the same. */
void httpd_runtime_prepare(apr_pool_t *pconf, apr_pool_t *ptemp, server_rec *s);

/** child_init: open the cache, make the table. Problems are logged. */
void httpd_runtime_open(apr_pool_t *pchild, server_rec *s);

#endif
