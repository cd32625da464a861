/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/*
 *     header | versions | requests | clients | waiters | present | visits
 *
 * The sets at the end have sizes of their own; each begins at a multiple of ALIGNMENT.
 */
#include "shared/segment.h"

#include <string.h>

#include <apr_general.h>

/* Says "ours" to whoever finds the memory again after the module was loaded anew. */
#define MAGIC 0x61636d65U
#define ALIGNMENT 64u

struct shared_segment_t {
    apr_uint32_t magic;
    apr_uint32_t layout;
    apr_uint32_t size;          /* of all */
    apr_uint32_t unused;
    shared_versions_t versions;
    shared_requests_t requests;
    shared_clients_t clients;
    shared_waiters_t waiters;
};

static apr_size_t align(apr_size_t size)
{
    return (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static apr_size_t size_of_present(void)
{
    return shared_names_size(shared_names_slots(SHARED_SEGMENT_PRESENT));
}

static apr_size_t size_of_visits(void)
{
    return shared_names_size(shared_names_slots(SHARED_SEGMENT_VISITS));
}

static void *place_of_present(void *memory)
{
    return (char *)memory + align(sizeof(shared_segment_t));
}

static void *place_of_visits(void *memory)
{
    return (char *)place_of_present(memory) + align(size_of_present());
}

apr_size_t shared_segment_size(void)
{
    return align(sizeof(shared_segment_t)) + align(size_of_present()) + align(size_of_visits());
}

apr_status_t shared_segment_init(void *memory)
{
    shared_segment_t *segment = memory;
    unsigned char key[4][SHARED_NAMES_KEY_SIZE];
    apr_status_t rv = apr_generate_random_bytes(key[0], sizeof(key));

    if (rv != APR_SUCCESS)
        return rv;
    segment->layout = SHARED_SEGMENT_LAYOUT;
    segment->size = (apr_uint32_t)shared_segment_size();
    shared_requests_init(&segment->requests, key[0]);
    shared_clients_init(&segment->clients, key[1]);
    shared_names_init(place_of_present(memory), shared_names_slots(SHARED_SEGMENT_PRESENT), key[2]);
    shared_names_init(place_of_visits(memory), shared_names_slots(SHARED_SEGMENT_VISITS), key[3]);
    segment->magic = MAGIC;
    return APR_SUCCESS;
}

shared_segment_t *shared_segment_attach(void *memory)
{
    shared_segment_t *segment = memory;

    if (!segment || segment->magic != MAGIC || segment->layout != SHARED_SEGMENT_LAYOUT
        || segment->size != shared_segment_size())
        return NULL;
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

shared_clients_t *shared_segment_clients(shared_segment_t *segment)
{
    return &segment->clients;
}

shared_waiters_t *shared_segment_waiters(shared_segment_t *segment)
{
    return &segment->waiters;
}

shared_names_t *shared_segment_present(shared_segment_t *segment)
{
    return shared_names_attach(place_of_present(segment), size_of_present());
}

shared_names_t *shared_segment_visits(shared_segment_t *segment)
{
    return shared_names_attach(place_of_visits(segment), size_of_visits());
}
