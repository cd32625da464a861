/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file cache/dir.h
 * The provider "dir": a directory as Go's autocert.DirCache keeps it
 * (conformance.md section 2), with durable writes. Shared keys are files in the
 * directory, private keys files in its sub-directory ".autocert", locks
 * permanent empty files in ".autocert/lock" under a kernel lock.
 */
#ifndef CACHE_DIR_H
#define CACHE_DIR_H

#include <apr_pools.h>
#include <apr_time.h>
#include <apr_user.h>

#include "mod_autocert.h"

/** Name under which it is registered: "AutocertCache dir:PATH". The argument is
 * an absolute path. */
#define CACHE_DIR_KIND "dir"

extern const autocert_cache_provider_t cache_dir_provider;

/** Remove temporary files that a writer of ours which was killed left behind:
 * those with our prefix, older than the age. Never touches another program's. Blocks
 * on the disk. */
apr_status_t cache_dir_sweep(const char *path, apr_time_t now, apr_interval_time_t age,
                             apr_pool_t *pool);

#endif
