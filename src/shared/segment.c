/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "shared/segment.h"

/* Says "ours" to whoever finds the memory again after the module was loaded anew. */
#define MAGIC 0x61636d65U

/* Layout: the header, then the tables; all members are 32-bit words or bytes, so no
 * compiler has a reason to put different holes between them. */
struct shared_segment_t {
    apr_uint32_t magic;
    apr_uint32_t layout;
    apr_uint32_t size;
    apr_uint32_t unused;
    shared_versions_t versions;
    shared_requests_t requests;
};

apr_size_t shared_segment_size(void)
{
    return sizeof(shared_segment_t);
}

void shared_segment_init(void *memory)
{
    shared_segment_t *segment = memory;

    segment->layout = SHARED_SEGMENT_LAYOUT;
    segment->size = (apr_uint32_t)sizeof(shared_segment_t);
    segment->magic = MAGIC;
}

shared_segment_t *shared_segment_attach(void *memory)
{
    shared_segment_t *segment = memory;

    if (!segment || segment->magic != MAGIC || segment->layout != SHARED_SEGMENT_LAYOUT
        || segment->size != sizeof(shared_segment_t)) {
        return NULL;
    }
    return segment;
}

shared_versions_t *shared_segment_versions(shared_segment_t *segment)
{
    return &segment->versions;
}

shared_requests_t *shared_segment_requests(shared_segment_t *segment)
{
    return &segment->requests;
}
