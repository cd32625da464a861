/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "shared/versions.h"

#include "base/hostname.h"

static volatile apr_uint32_t *find_slot(shared_versions_t *versions, const char *name)
{
    return &versions->slot[base_hostname_hash(name) & (SHARED_VERSIONS_SLOTS - 1)];
}

apr_uint32_t shared_versions_get(shared_versions_t *versions, const char *name)
{
    return apr_atomic_read32(find_slot(versions, name));
}

void shared_versions_raise(shared_versions_t *versions, const char *name)
{
    apr_atomic_inc32(find_slot(versions, name));
}
