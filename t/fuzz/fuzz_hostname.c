/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/* SNI and Host as clients send them, and names from the configuration. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <apr_general.h>
#include <apr_strings.h>

#include "base/hostname.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

static const char LETTERS[] = "abcdefghijklmnopqrstuvwxyz0123456789-.";

/* One or more labels at the end of the name. */
static void judge_owner(const char *name)
{
    const char *owner = base_hostname_owner(name);
    size_t before = strlen(name) - strlen(owner);
    char again[BASE_HOSTNAME_SIZE];

    if (owner != name + before || (before && owner[-1] != '.')
        || !base_hostname_from_client(again, owner, strlen(owner))
        || strcmp(base_hostname_owner(owner), owner) != 0
        || (base_hostname_is_made_up(name) && !before))
        abort();
}

/* Fit to be a file name and a cache key, and the same when read again. */
static void judge(const char *name)
{
    char again[BASE_HOSTNAME_SIZE];

    if (strlen(name) > BASE_HOSTNAME_MAX || strspn(name, LETTERS) != strlen(name)
        || name[0] == '.' || !strchr(name, '.') || strstr(name, "..")
        || !base_hostname_from_client(again, name, strlen(name)) || strcmp(again, name) != 0
        || base_hostname_hash(name) == 0)
        abort();
    base_hostname_special_use(name);
    judge_owner(name);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    char name[BASE_HOSTNAME_SIZE];
    const char *made = NULL, *again = NULL;
    apr_pool_t *pool = NULL;

    apr_initialize();
    apr_pool_create(&pool, NULL);
    if (base_hostname_from_client(name, (const char *)data, size))
        judge(name);
    if (!base_hostname_from_config(&made, apr_pstrmemdup(pool, (const char *)data, size), pool)) {
        judge(made);
        /* Only "xn--" labels may be dearer to the second reading. */
        if (!base_hostname_from_config(&again, made, pool) && strcmp(again, made) != 0)
            abort();
    }
    apr_pool_destroy(pool);
    apr_terminate();
    return 0;
}
