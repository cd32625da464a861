/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file challenge/challenge.h
 * The kinds of challenge (RFC 8555 section 8, RFC 8737): publish, answer,
 * withdraw. What is published goes through the cache under Go's keys, so every
 * child and every node that shares the cache can answer.
 */
#ifndef CHALLENGE_CHALLENGE_H
#define CHALLENGE_CHALLENGE_H

#include <apr_pools.h>
#include <apr_time.h>

#include "base/error.h"
#include "cache/cache.h"

/** One challenge of one order. */
typedef struct challenge_task_t {
    cache_t *cache;
    const char *name;               /* A-label */
    const char *token;              /* checked by acme/authorization.c */
    const char *key_authorization;
    apr_time_t now;
} challenge_task_t;

typedef struct challenge_kind_t {
    const char *type;               /* "http-01" */
    /** Make the answer visible; blocks on the cache. */
    apr_status_t (*publish)(const challenge_task_t *task, apr_pool_t *pool, base_error_t *err);
    /** Take it away again; what is gone already is fine. */
    void (*withdraw)(const challenge_task_t *task, apr_pool_t *pool);
} challenge_kind_t;

/** All kinds by their type; NULL when there is none. Any thread. */
const challenge_kind_t *challenge_find(const char *type);

/** The list of types for messages: "tls-alpn-01, http-01". */
const char *challenge_types(apr_pool_t *pool);

#endif
