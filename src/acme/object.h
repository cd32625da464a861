/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file acme/object.h
 * What orders, authorizations and challenges have in common (RFC 8555 section 7.1.6): a status, URLs that
 * must be usable, and words for an object that is no good. Nothing here blocks; any thread.
 */
#ifndef ACME_OBJECT_H
#define ACME_OBJECT_H

#include <apr_pools.h>
#include <jansson.h>

#include "acme/client.h"
#include "base/error.h"

typedef enum {
    ACME_OBJECT_PENDING,
    ACME_OBJECT_READY,          /* orders only */
    ACME_OBJECT_PROCESSING,
    ACME_OBJECT_VALID,
    ACME_OBJECT_INVALID         /* also deactivated, expired, revoked (authorizations) */
} acme_object_status_t;

/** The status of an object, PENDING when it has none that is known. @param json may be NULL */
acme_object_status_t acme_object_status(const json_t *json);

/** The word for a status, for the log; static. */
const char *acme_object_status_word(acme_object_status_t status);

/** The member's URL, resolved and checked, in the pool; NULL when missing or not usable.
 * @param json the object or a part of it, may be NULL @param answer that it came with */
const char *acme_object_url(const acme_client_answer_t *answer, const json_t *json,
                            const char *member, apr_pool_t *pool);

/** Fill in err (may be NULL) for an object that is no good: CA_DOWN.
 * @param what kind of object it is @param why "has no ..." @return APR_EGENERAL */
apr_status_t acme_object_refuse(base_error_t *err, const char *what, const char *url, const char *why);

#endif
