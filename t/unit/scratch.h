/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file scratch.h
 * A directory for one test, below TMPDIR.
 */
#ifndef SCRATCH_H
#define SCRATCH_H

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#define SCRATCH_SIZE 256        /* of the buffer for its path */

static inline int scratch_remove_entry(const char *name, const struct stat *st, int type,
                                       struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(name);
}

/** Make one; its path is written to dir. @return 0, or not 0, as fixtures do */
static inline int scratch_make(char dir[SCRATCH_SIZE])
{
    const char *tmp = getenv("TMPDIR");

    snprintf(dir, SCRATCH_SIZE, "%s/autocert-XXXXXX", tmp ? tmp : "/tmp");
    return !mkdtemp(dir);
}

/** Remove it and all that is in it. @return 0, or not 0, as fixtures do */
static inline int scratch_remove(const char *dir)
{
    return nftw(dir, scratch_remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

#endif
