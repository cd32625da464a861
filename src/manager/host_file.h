/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file manager/host_file.h
 * "AutocertHostPolicy file": names that may have a certificate, one a line: a name (U-labels too) or
 * "*.suffix", which is exactly one label below it; '#' begins a comment, empty lines are fine. Handshakes
 * ask a set in shared memory (shared/names.h); whoever loads the file fills it anew when the
 * file changed. A line that is no name is reported and skipped.
 */
#ifndef MANAGER_HOST_FILE_H
#define MANAGER_HOST_FILE_H

#include <apr_pools.h>
#include <apr_time.h>

#include "base/error.h"
#include "shared/names.h"

#define MANAGER_HOST_FILE_LINE_MAX 1024         /* bytes; a longer line is no name */
#define MANAGER_HOST_FILE_BYTES_MAX (512 * 1024 * 1024)     /* of a file */
#define MANAGER_HOST_FILE_ROOM 262144           /* names there is room for, at the least */

/** One file; made from the configuration. `names` is NULL until shared memory is there. */
typedef struct manager_host_file_t {
    const char *path;
    int preload;                    /* obtain ahead of visitors */
    shared_names_t *names;
} manager_host_file_t;

/** How many lines a file has, to find out how much room it needs; 0 when it cannot be read. Blocks;
 * configuration time. */
apr_size_t manager_host_file_count(const char *path, apr_pool_t *pool);

/**
 * Fill the set from the file if the file changed since it was filled (size, mtime, inode), or always if
 * it never was. Blocks on the file; the parent at start (maybe as root: opens the path for reading only)
 * and the elected child. A file that cannot be read leaves what was loaded. Logs: AC0160 (notice: how
 * many names were read), AC0161 (warning: it cannot be read, what goes on), AC0162 (warning: so many lines
 * are no names, the first of them), AC0163 (warning: more names than room; a graceful restart makes more).
 * @return APR_SUCCESS: filled anew; APR_EEXIST: unchanged; APR_EBUSY: another process fills it; else
 *         why it cannot be read (logged when that changed since the last call in this process:
 *         keep the last status in *reported, which begins as APR_SUCCESS)
 */
apr_status_t manager_host_file_load(const manager_host_file_t *file, apr_status_t *reported,
                                    apr_time_t now, apr_pool_t *pool);

/** Does the file list the name or "*." and its parent? From shared memory; handshakes; never blocks.
 * Before the first load: no. When the set had no room for some names: yes for any that it does not
 * have, since theirs may be in service; lists() is exact then too. */
int manager_host_file_allows(const manager_host_file_t *file, const char *name);

/** The same from the file itself, exactly: before a certificate is ordered. Blocks; the elected child.
 * A file that cannot be read: no, unless the set has the name. */
int manager_host_file_lists(const manager_host_file_t *file, const char *name, apr_pool_t *pool);

/** Call fn for each exact name of the file (not for "*.suffix"), A-labels; fn returns APR_SUCCESS to
 * go on. The name is valid during the call only. Blocks; the elected child, for preload.
 * @return APR_SUCCESS at the end of the file, what fn returned, or why it cannot be read */
apr_status_t manager_host_file_each(const manager_host_file_t *file,
                                    apr_status_t (*fn)(void *baton, const char *name), void *baton,
                                    apr_pool_t *pool);

#endif
