/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file manager/ask.h
 * "AutocertHostPolicy ask": an HTTP endpoint says whether a name may have a certificate. Blocking,
 * for worker threads of the elected child; bounded in time and size, ended when the process is asked
 * to stop. Answers are remembered here, in a bounded table of this process.
 */
#ifndef MANAGER_ASK_H
#define MANAGER_ASK_H

#include <apr_pools.h>
#include <apr_tables.h>
#include <apr_time.h>

#include "base/error.h"
#include "base/stop.h"

#define MANAGER_ASK_TIMEOUT apr_time_from_sec(5)        /* default of timeout= */
#define MANAGER_ASK_YES_KEPT apr_time_from_sec(300)     /* without Cache-Control: max-age */
#define MANAGER_ASK_NO_KEPT apr_time_from_sec(60)       /* the same */
#define MANAGER_ASK_KEPT_MIN apr_time_from_sec(1)       /* bounds of max-age */
#define MANAGER_ASK_KEPT_MAX apr_time_from_sec(3600)
#define MANAGER_ASK_TROUBLE_KEPT apr_time_from_sec(5)   /* the endpoint gave no usable answer */
#define MANAGER_ASK_TABLE_MAX 4096                      /* answers remembered; the one that ends first goes */
#define MANAGER_ASK_BODY_MAX (64 * 1024)                /* bytes; the body is not looked at */

/** One ask line; made from the configuration, read only. */
typedef struct manager_ask_endpoint_t {
    const char *url;                /* http or https; what "domain" and "ip" are added to */
    const char *unix_path;          /* connect to this socket instead of the URL's host, NULL: no */
    const char *cafile;             /* trust for its TLS, NULL: the system's */
    apr_interval_time_t timeout;    /* of one question, all in all */
} manager_ask_endpoint_t;

typedef enum {
    MANAGER_ASK_NO,
    MANAGER_ASK_YES,
    MANAGER_ASK_TROUBLE             /* no usable answer, which counts as no; err says why */
} manager_ask_answer_t;

typedef struct manager_ask_t manager_ask_t;

/** Parse "URL" or "unix:PATH|URL", "cafile=FILE", "timeout=DURATION" is the directive's business: this
 * checks one URL. @return NULL, or the sentence that says what to write: only http and https, with a
 * host, without user, fragment, "domain=" or "ip=" in the query */
const char *manager_ask_check_url(const char *url, apr_pool_t *pool);

/** Make the memory of answers and the connections for these endpoints; freed with the pool.
 * @param endpoints of const manager_ask_endpoint_t *; may be empty
 * @param stop may be NULL; @param now the clock */
apr_status_t manager_ask_create(manager_ask_t **ask, const apr_array_header_t *endpoints,
                                const base_stop_t *stop, apr_time_t (*now)(void), apr_pool_t *pool);

/**
 * Ask about a name, or remember what was said. GET of the URL with "domain=NAME" and, when known,
 * "ip=ADDRESS" added to its query; 2xx is yes, any other complete answer is no; no redirect is
 * followed, no proxy used (nor looked for in the environment). Any thread; no lock is held while the
 * network is used; threads that ask about one name at the same time may both ask.
 * @param endpoint one of those given to create()
 * @param client text of an address, "" unknown; not part of what answers are remembered by
 * @param until set to the moment up to which the answer holds
 * @param err filled for TROUBLE (kind REFUSED, or CANCELLED when stopped: nothing is remembered then)
 */
manager_ask_answer_t manager_ask(manager_ask_t *ask, const manager_ask_endpoint_t *endpoint,
                                 const char *name, const char *client, apr_time_t *until,
                                 apr_pool_t *pool, base_error_t *err);

/**
 * Ask about a name that nobody can own, made of random letters below "invalid" (RFC 6761), never
 * remembered. @return YES: the endpoint says yes to everything; NO: it is well; TROUBLE as above
 */
manager_ask_answer_t manager_ask_canary(manager_ask_t *ask, const manager_ask_endpoint_t *endpoint,
                                        apr_pool_t *pool, base_error_t *err);

#endif
